// Rounding of matrices that lie in memory column by column while their elements are counted row by row: images in
// channels_last order.
#pragma once

#include "dispatch.h"

namespace convsmith {

// `outer` matrices of `rows` rows, which in memory are `columns` pieces of `rows` numbers each.
struct Transposed {
    size_t outer, rows, columns;
};

// Rounds them all; y may be x. Random bits belong to the index counted row by row. As fast as two more passes through
// the first-level cache: what is rounded is laid in order there, and back.
void round_transposed(const Level& level, const float* x, float* y, const Transposed& shape, const Rounding& rounding,
                      const Key& key, int threads);

}  // namespace convsmith
