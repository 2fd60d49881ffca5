// The micro-kernels of gemm.h. Compiled once per instruction set.
#include "gemm.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

template <int R, int V>
inline void add_products(F (&sums)[R][V], const float* a, const float* b) {
    F columns[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) columns[v] = load(b + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
        const F element = all(a[r * kDepth]);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) sums[r][v] += element * columns[v];
    }
}

template <int R, int V, bool Add>
void multiply(const float* a, const float* b, long depth, float* c, long pitch) {
    F sums[R][V] = {};
    if constexpr (Add) {
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) sums[r][v] = load(c + r * pitch + v * kLanes);
        }
    }
    for (; depth >= kDepth; depth -= kDepth, a += R * kDepth) {
#pragma GCC unroll 4
        for (int d = 0; d < kDepth; ++d, b += V * kLanes) add_products<R, V>(sums, a + d, b);
    }
    for (int d = 0; d < depth; ++d, b += V * kLanes) add_products<R, V>(sums, a + d, b);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) store(c + r * pitch + v * kLanes, sums[r][v]);
    }
}

// A table of all tiles, filled by the compiler.
template <bool Add, int R>
constexpr void fill(Multiply (&table)[kRows][kVectors]) {
    table[R - 1][0] = multiply<R, 1, Add>;
    table[R - 1][1] = multiply<R, 2, Add>;
    if constexpr (R > 1) fill<Add, R - 1>(table);
}

template <bool Add>
struct Kernels {
    Multiply table[kRows][kVectors] = {};
    constexpr Kernels() { fill<Add, kRows>(table); }
};

static_assert(kVectors == 2, "the table holds tiles of one and of two vectors");
constexpr Kernels<false> multiply_tiles;
constexpr Kernels<true> add_tiles;

}  // namespace

Multiply multiply_tile(int rows, int vectors) { return multiply_tiles.table[rows - 1][vectors - 1]; }
Multiply add_tile(int rows, int vectors) { return add_tiles.table[rows - 1][vectors - 1]; }

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
