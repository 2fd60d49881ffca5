// Rounding to block formats: what is asked for. Included by files compiled for one instruction set, so it must not
// define any function.
#pragma once

#include <stddef.h>

#include "round.h"

namespace convsmith {

// Blocks of `size` elements lie along an axis of `length` indices, `inner` elements apart; the last of an axis may be
// smaller. The exponent of a block's scale is that of its largest magnitude less `largest`, one more where `fit` is set
// and the magnitude's significand exceeds that of `most`, the largest element value; then limited to `low` and `high`.
// A block that holds no finite numbers only becomes NaN.
struct Blocks {
    size_t size, length, inner;
    int largest, low, high;
    bool fit;
    double most;
};

// Rounds blocks begin to end, counted along the axis, then across `inner` (each column on its own), then outwards:
// block u is the (u / inner % count)-th of column u % inner. y may be x. `narrow` and `wide` are the element format.
using RoundBlocks = void (*)(Numbers x, float* y, size_t begin, size_t end, const Blocks& blocks,
                             const Rounding& narrow, const WideRounding& wide, const Key& key);

}  // namespace convsmith
