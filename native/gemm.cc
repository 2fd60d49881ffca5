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

template <int R, int V>
void multiply(const float* a, const float* b, long depth, float* c, long pitch) {
    F sums[R][V] = {};
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

template <int R>
Multiply of_rows(int rows, int vectors) {
    if constexpr (R == 0)
        return nullptr;
    else if (rows == R)
        return vectors == 1 ? multiply<R, 1> : multiply<R, kVectors>;
    else
        return of_rows<R - 1>(rows, vectors);
}

}  // namespace

Multiply multiply_tile(int rows, int vectors) { return of_rows<kRows>(rows, vectors); }

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
