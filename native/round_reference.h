#pragma once

#include "round.h"

namespace convsmith {

// The plain versions that the kernels are tested against: one element after the other.
void round_reference(const float* x, float* y, size_t begin, size_t end, const Rounding& rounding, const Scale& scale,
                     const Key& key);
void round_wide_reference(Numbers x, Numbers y, size_t begin, size_t end, const WideRounding& rounding,
                          const Scale& scale, const Key& key);
void count_reference(const float* x, float* y, size_t begin, size_t end, const Rounding& rounding, const Scale& scale,
                     const Key& key, Counts& counts);

// The random word of an element, at the top of 64 bits; `wide`: with the 32 bits below it.
uint64_t random_word(size_t index, const Key& key, bool wide);

// Rounds one number.
template <typename T>
double round_one(double x, const RoundingIn<T>& rounding, uint64_t word, double zero);

}  // namespace convsmith
