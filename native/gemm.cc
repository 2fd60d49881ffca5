// The micro-kernels of gemm.h. Compiled once per instruction set.
#include "gemm.h"

#include "tile_sums.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

template <int R, int V>
inline void add_place(F (&sums)[R][V], const float* a, const float* b) {
    add_products(sums, [a](int r) { return a[r * kDepth]; }, b);
}

template <int R, int V, bool Add>
void multiply(const float* a, const float* b, long depth, float* c, long pitch) {
    F sums[R][V] = {};
    if constexpr (Add) load_tile(sums, c, pitch);
    for (; depth >= kDepth; depth -= kDepth, a += R * kDepth) {
#pragma GCC unroll 4
        for (int d = 0; d < kDepth; ++d, b += V * kLanes) add_place(sums, a + d, b);
    }
    for (int d = 0; d < depth; ++d, b += V * kLanes) add_place(sums, a + d, b);
    store_tile(c, pitch, sums);
}

template <bool Add>
struct Kernels {
    template <int R, int V>
    static constexpr Multiply kernel = multiply<R, V, Add>;
};

constexpr TileTable<Multiply, kRows, kVectors, Kernels<false>> multiply_tiles;
constexpr TileTable<Multiply, kRows, kVectors, Kernels<true>> add_tiles;

}  // namespace

Multiply multiply_tile(int rows, int vectors) { return multiply_tiles.kernel(rows, vectors); }
Multiply add_tile(int rows, int vectors) { return add_tiles.kernel(rows, vectors); }

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
