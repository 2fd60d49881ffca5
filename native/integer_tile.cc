// The micro-kernels of integer_tile.h. Compiled once per instruction set.
#include "integer_tile.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

constexpr int kGroup = 3;  // pixels that one pointer reaches: itself, one pitch and two pitches on

template <int R, int V>
inline void add_four(I (&sums)[R][V], const uint8_t* const (&rows)[(R + kGroup - 1) / kGroup], long pitch, long at,
                     const int8_t* b) {
    Right right[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) right[v] = columns(b + v * 4 * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
        const Left left = spread(rows[r / kGroup] + r % kGroup * pitch + at);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) sums[r][v] = add_products(sums[r][v], left, right[v]);
    }
}

void finish_tile(const int32_t* tile, int rows, int vectors, const Target& t) {
    for (int row = 0; row < rows; ++row)
        for (int vector = 0; vector < vectors; ++vector)
            finish(load_sums(tile + (row * vectors + vector) * kLanes), t.finish, t.pixel + row,
                   t.channel + vector * kLanes, t.count - vector * kLanes);
}

template <int R, int V>
void multiply(const uint8_t* a, long pitch, const Runs& runs, const int8_t* b, const Target& target) {
    I sums[R][V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
        const I bias = load_sums(target.finish.bias + target.channel + v * kLanes);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) sums[r][v] = bias;
    }
    constexpr int kPointers = (R + kGroup - 1) / kGroup;
    for (int run = 0; run < runs.count; ++run) {
        const uint8_t* rows[kPointers];
#pragma GCC unroll 8
        for (int i = 0; i < kPointers; ++i) rows[i] = a + runs.offsets[run] + i * kGroup * pitch;
        long fours = run + 1 == runs.count ? runs.last_fours : runs.fours;
        for (; fours >= 4; fours -= 4) {
#pragma GCC unroll 4
            for (int d = 0; d < 4; ++d, b += V * 4 * kLanes) add_four<R, V>(sums, rows, pitch, d * 4, b);
#pragma GCC unroll 8
            for (int i = 0; i < kPointers; ++i) rows[i] += 16;
        }
        for (int d = 0; d < fours; ++d, b += V * 4 * kLanes) add_four<R, V>(sums, rows, pitch, d * 4, b);
    }
    if (target.finish.plain && target.count >= V * kLanes) {
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v)
                finish_plain(sums[r][v], target.finish, target.pixel + r, target.channel + v * kLanes);
        }
        return;
    }
    int32_t tile[R * V * kLanes];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) store_sums(tile + (r * V + v) * kLanes, sums[r][v]);
    }
    finish_tile(tile, R, V, target);
}

struct Kernels {
    template <int R, int V>
    static constexpr MultiplyCodes kernel = multiply<R, V>;
};

constexpr TileTable<MultiplyCodes, kTileRows, kTileVectors, Kernels> tiles;

}  // namespace

MultiplyCodes multiply_codes(int rows, int vectors) { return tiles.kernel(rows, vectors); }

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
