// The micro-kernels of outer.h. Compiled once per instruction set.
#include "outer.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

template <int R, int V>
inline void add_place(F (&sums)[R][V], const float* a, const float* b) {
    F columns[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) columns[v] = load(b + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
        const F element = all(a[r]);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) sums[r][v] += element * columns[v];
    }
}

template <int R, int V>
void add(const float* a, const float* b, const Depth& depth, bool fresh, float* c) {
    F sums[R][V] = {};
    if (!fresh) {
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) sums[r][v] = load(c + (r * V + v) * kLanes);
        }
    }
    const long step = depth.a_step;
    for (int line = 0; line < depth.lines; ++line, a += depth.a_line) {
        const float* at = a;
        for (int place = 0; place < depth.width; ++place, at += step, b += V * kLanes) add_place<R, V>(sums, at, b);
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) store(c + (r * V + v) * kLanes, sums[r][v]);
    }
}

// A table of all tiles, filled by the compiler.
template <int R>
constexpr void fill(AddOuter (&table)[kRows][kVectors]) {
    table[R - 1][0] = add<R, 1>;
    table[R - 1][1] = add<R, 2>;
    if constexpr (R > 1) fill<R - 1>(table);
}

struct Kernels {
    AddOuter table[kRows][kVectors] = {};
    constexpr Kernels() { fill<kRows>(table); }
};

static_assert(kVectors == 2, "the table holds tiles of one and of two vectors");
constexpr Kernels kernels;

}  // namespace

AddOuter add_outer(int rows, int vectors) { return kernels.table[rows - 1][vectors - 1]; }

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
