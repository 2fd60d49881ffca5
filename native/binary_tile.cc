// The micro-kernels of binary_tile.h. Compiled once per instruction set.
#include "binary_tile.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

// One word of a row against one vector of columns.
template <Planes planes>
inline W count(W total, const uint64_t* a, const W* columns) {
    if constexpr (planes == Planes::binary) {
        return total + population(all(a[0]) ^ columns[0]);
    } else if constexpr (planes == Planes::ternary_right) {
        return total + population((all(a[0]) ^ columns[0]) & columns[1]);
    } else {
        const W both = all(a[1]) & columns[1], differ = population((all(a[0]) ^ columns[0]) & both);
        return total + differ + differ - population(both);
    }
}

template <Planes planes, int R>
void tile(const uint64_t* a, long a_pitch, const uint64_t* panel, long words, int32_t (*below)[kTileColumns]) {
    constexpr int left = left_planes(planes), right = right_planes(planes);
    W totals[R][kTileVectors] = {};
    for (long word = 0; word < words; ++word, panel += right * kTileColumns) {
        W columns[kTileVectors][right];
#pragma GCC unroll 4
        for (int v = 0; v < kTileVectors; ++v) {
#pragma GCC unroll 2
            for (int plane = 0; plane < right; ++plane)
                columns[v][plane] = load(panel + plane * kTileColumns + v * kWords);
        }
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
            for (int v = 0; v < kTileVectors; ++v)
                totals[r][v] = count<planes>(totals[r][v], a + r * a_pitch + word * left, columns[v]);
        }
    }
    constexpr int times = planes == Planes::ternary ? 1 : 2;
    for (int r = 0; r < R; ++r)
        for (int v = 0; v < kTileVectors; ++v) {
            const N counts = __builtin_convertvector((L)totals[r][v], N) * times;
            memcpy(below[r] + v * kWords, &counts, sizeof counts);
        }
}

template <Planes planes, int R = kTileRows>
BinaryTile tile_of(int rows) {
    if constexpr (R > 1)
        if (rows < R) return tile_of<planes, R - 1>(rows);
    return tile<planes, R>;
}

}  // namespace

BinaryTile binary_tile(Planes planes, int rows) {
    if (planes == Planes::binary) return tile_of<Planes::binary>(rows);
    return planes == Planes::ternary_right ? tile_of<Planes::ternary_right>(rows) : tile_of<Planes::ternary>(rows);
}

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
