#pragma once

#include "round.h"

namespace convsmith {

// The plain versions that the kernels are tested against: one element after the other.
void round_reference(const float* x, float* y, size_t begin, size_t end, const Rounding& rounding, const Scale& scale,
                     const Key& key);
void count_reference(const float* x, float* y, size_t begin, size_t end, const Rounding& rounding, const Scale& scale,
                     const Key& key, Counts& counts);

}  // namespace convsmith
