// The innermost piece of sums of products of signs: a few rows times a panel of columns, all counts in registers.
//
// A right operand is packed by panels of columns: panel[word][plane][column]; every column has its own 64-bit count, so
// that nothing is summed across a vector.
#pragma once

#include "binary.h"
#include "words.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {

#if defined(__AVX512VPOPCNTDQ__)
// 24 counts, 4 vectors of the panel and 1 spread word of the 32 registers.
constexpr int kTileRows = 6, kTileVectors = 4;
#elif defined(__AVX512F__)
constexpr int kTileRows = 6, kTileVectors = 2;
#elif defined(__AVX2__)
// 8 counts, 2 vectors, 1 spread word, the table, the mask and temporaries of the 16 registers.
constexpr int kTileRows = 4, kTileVectors = 2;
#else
constexpr int kTileRows = 2, kTileVectors = 4;
#endif
constexpr int kTileColumns = kTileVectors * kWords;
static_assert(kTileColumns % 8 == 0, "a panel's signs are whole bytes");

// below[row][column] = how far the sum lies below its base: twice the number of differing signs; where both operands
// are ternary less the number of places where neither is zero. Rows of a lie a_pitch words apart.
using BinaryTile = void (*)(const uint64_t* a, long a_pitch, const uint64_t* panel, long words,
                            int32_t (*below)[kTileColumns]);

// The kernel for 1 to kTileRows rows.
BinaryTile binary_tile(Planes planes, int rows);

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
