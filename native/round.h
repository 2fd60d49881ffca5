// Rounding of float32 arrays to narrower formats: what is asked for. Plain data, shared by the reference and the
// kernels.
//
// This header is included by files that are compiled for one instruction set only, so it must not define any function.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace convsmith {

enum class Mode : int { toward_zero, nearest_even, nearest_away, up, down, to_odd, stochastic };
constexpr int kModes = 7;

// Elements that share one set of random counters; threads are given whole blocks.
constexpr size_t kBlock = 64;

// One format, mode and overflow rule, for arithmetic in T; src/convsmith/formats/constants.py computes the fields.
template <typename T>
struct RoundingIn {
    bool is_float;
    Mode mode;
    int significand_bits;  // stored fraction bits kept, 0 to 23, or 52 in double
    bool flip_parity;      // without fraction bits: the parity of a code is not that of the carrier's exponent field
    T smallest_normal;     // floats have full precision from here up
    int step_exponent;     // below it, and everywhere in fixed point, values are multiples of 2^step_exponent
    T lowest, highest;
    T below, above;  // what stands for a number beyond lowest and highest
    T minus_infinity, plus_infinity;
    int wrap_bits;    // width of a fixed-point format whose overflow wraps, else 0
    int random_bits;  // of stochastic rounding, 1 to 24, or 52 in double
    bool is_binary;
    bool negative_zero;
    bool zero;        // false: positive numbers below lowest become it
    bool all_normal;  // below smallest_normal, which is no power of two, there is only zero; in double only
};
using Rounding = RoundingIn<float>;
using WideRounding = RoundingIn<double>;

// Element i is divided by its factor before rounding and multiplied by it after; null factors: no scale. Where there
// are zeros, fixed-point limits are lower by so many steps. Without groups the factor is factors[i / inner % count].
// With them, every `group` of the `length` indices of an axis share `inner` factors, one for each element inside of the
// axis; the last group may be smaller.
struct Scale {
    const float* factors;
    size_t count;
    size_t inner;
    const float* zeros;
    size_t length;
    size_t group;
};

// Element i draws word i % 64 / 16 of Philox4x32-7 with key `seed` and counter (16 * (i / 64) + i % 16, stream); for
// more than 32 random bits another word below it, with bit 63 of the counter set.
struct Key {
    uint64_t seed;
    uint64_t stream;
};

// Rounds elements begin to end of a tensor whose element 0 is x[0]; y may be x. Precondition: begin % kBlock == 0.
using RoundRange = void (*)(const float* x, float* y, size_t begin, size_t end, const Rounding& rounding,
                            const Scale& scale, const Key& key);

// An array of float or of double.
struct Numbers {
    void* data;
    bool wide;
};

// The same in double arithmetic, from and to either type. Precondition: every value of the format is one of y's type.
using RoundWideRange = void (*)(Numbers x, Numbers y, size_t begin, size_t end, const WideRounding& rounding,
                                const Scale& scale, const Key& key);

// What happened to the elements of a tensor; with a scale, to the quotients by their factors.
struct Counts {
    uint64_t overflows;   // finite, and beyond the range once rounded as if the exponent had no upper end
    uint64_t underflows;  // not zero, and rounded to zero without overflow
    uint64_t infinities;
    uint64_t nans;
};

// As RoundRange, and adds to `counts`.
using CountRange = void (*)(const float* x, float* y, size_t begin, size_t end, const Rounding& rounding,
                            const Scale& scale, const Key& key, Counts& counts);

}  // namespace convsmith
