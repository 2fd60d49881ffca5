// The sums of a tile of a matrix product, which stay in registers: R rows of V vectors of columns.
#pragma once

#include "lanes.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

// Adds element(row) times the vectors at b to every row.
template <int R, int V, class Element>
inline void add_products(F (&sums)[R][V], const Element& element, const float* b) {
    F columns[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) columns[v] = load(b + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
        const F left = all(element(r));
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) sums[r][v] += left * columns[v];
    }
}

// Rows lie `pitch` floats apart.
template <int R, int V>
inline void load_tile(F (&sums)[R][V], const float* from, long pitch) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) sums[r][v] = load(from + r * pitch + v * kLanes);
    }
}

template <int R, int V>
inline void store_tile(float* to, long pitch, const F (&sums)[R][V]) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) store(to + r * pitch + v * kLanes, sums[r][v]);
    }
}

}  // namespace
}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
