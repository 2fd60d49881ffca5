// The product of pixels where they lie, a tile of pixels by output channels, and packed weights. Included by files that
// are compiled once per instruction set.
#pragma once

#include "gemm.h"
#include "tile_sums.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

constexpr int kGroup = 3;  // pixels that one pointer reaches: itself, one step and two steps on

// Kernel rows of one tile of pixels: `rows` runs of `run` floats, `line` floats apart; pixels `step` floats apart.
struct Runs {
    int rows;
    long run, line, step;
};

// c[pixel][column] = the sum over all runs; the weights follow each other in the order of the runs.
using MultiplyRuns = void (*)(const float* a, const Runs& runs, const float* b, float* c);

template <int R, int V>
void multiply_runs(const float* a, const Runs& runs, const float* b, float* c) {
    F sums[R][V] = {};
    constexpr int kPointers = (R + kGroup - 1) / kGroup;
    const long step = runs.step;
    for (int row = 0; row < runs.rows; ++row, a += runs.line) {
        const float* pixels[kPointers];
#pragma GCC unroll 8
        for (int i = 0; i < kPointers; ++i) pixels[i] = a + i * kGroup * step;
        const auto add = [&](long d) {
            add_products(sums, [&](int r) { return pixels[r / kGroup][r % kGroup * step + d]; }, b);
        };
        long d = 0;
        for (; d + 3 <= runs.run; d += 3) {
#pragma GCC unroll 4
            for (int i = 0; i < 3; ++i, b += V * kLanes) add(d + i);
        }
        for (; d < runs.run; ++d, b += V * kLanes) add(d);
    }
    store_tile(c, V * kLanes, sums);
}

struct RunKernels {
    template <int R, int V>
    static constexpr MultiplyRuns kernel = multiply_runs<R, V>;
};

constexpr TileTable<MultiplyRuns, kRows, kVectors, RunKernels> run_tiles;

}  // namespace
}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
