// The matrix product's innermost piece: a few rows times a panel of columns, all sums in registers.
//
// Left factors are packed by blocks of rows: block[d / kDepth][row][d % kDepth], so that one pointer reaches every row
// and packing copies whole vectors. Right factors are packed by panels of columns: panel[d][column].
#pragma once

#include "lanes.h"
#include "tiles.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {

constexpr int kDepth = 16;
#if defined(__AVX512F__)
// 28 sums, 2 vectors of the panel and 1 spread element fill the 32 registers.
constexpr int kRows = 14, kVectors = 2;
#else
// 12 sums of the 16 registers.
constexpr int kRows = 6, kVectors = 2;
#endif
constexpr int kPanel = kVectors * kLanes;

// c[row * pitch + column] = sum over d < depth of a[row][d] b[d][column]; c is aligned to vectors.
using Multiply = void (*)(const float* a, const float* b, long depth, float* c, long pitch);

// The kernel for 1 to kRows rows and 1 to kVectors vectors of columns.
Multiply multiply_tile(int rows, int vectors);
// The same, added to what c holds: a sum may come in chunks of its depth, with the same result.
Multiply add_tile(int rows, int vectors);

namespace {

using Blocks = Tiles<kRows>;

// Floats of a packed block or of several one after the other.
inline long packed_rows(long rows, long depth) { return rows * round_up(depth, kDepth); }

// Floats of all panels of a right factor; the last is only as many vectors wide as it needs.
inline long packed_columns(long columns, long depth) { return depth * round_up(columns, kLanes); }

// At least so many floats in an odd number of cache lines: steps of these spread over the sets of a cache.
constexpr long odd_lines(long floats) { return round_up(floats, kDepth) | kDepth; }

inline int panel_count(int columns) { return (columns + kPanel - 1) / kPanel; }

inline int panel_vectors(int columns, int panel) {
    const int left = columns - panel * kPanel;
    return left >= kPanel ? kVectors : (left + kLanes - 1) / kLanes;
}

}  // namespace
}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
