// Rounding as one or two sums, exact and without a case for small numbers; round_lanes.h has what does not fit here.
//
// Float: |x| + 2^23 steps lies where float32 values are one step apart, so that the sum is rounded to whole steps, and
// taking 2^23 steps away again is exact. Stochastic: the steps are floor(|x| / step + u). A sum that is rounded toward
// zero never crosses a whole number, so its floor is that of the exact one; only AVX-512 can choose that rounding.
#pragma once

#include "lanes.h"
#include "round.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

#if defined(__AVX512F__)
constexpr bool kTruncates = true;

inline F add_truncated(F a, F b) {
    return (F)_mm512_add_round_ps((__m512)a, (__m512)b, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
}
// a * b + c, rounded once.
inline F multiply_add_truncated(F a, F b, F c) {
    return (F)_mm512_fmadd_round_ps((__m512)a, (__m512)b, (__m512)c, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
}
inline F multiply_add(F a, F b, F c) { return (F)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
inline F truncated(F v) { return (F)_mm512_roundscale_ps((__m512)v, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC); }
inline F converted(U v) { return (F)_mm512_cvtepu32_ps((__m512i)v); }
inline bool any_nan(F a, F b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_UNORD_Q) != 0; }
#else
constexpr bool kTruncates = false;

inline bool any_nan(F a, F b) { return any((a != a) | (b != b)); }
#endif

template <Mode M>
constexpr bool kBySums = M == Mode::nearest_even || (M == Mode::stochastic && kTruncates);

// The constants of a format, where sums suit it: floats that saturate, with a sign, zero and subnormals, whose
// exponents leave room for 2^23 steps of the largest number and 2^-32 of the least; fixed point that saturates.
struct Sums {
    bool suit;
    U normal, highest, exponent, to_whole, to_unit, keep, sign;
    F low, high, step, per_step, unit, middle;

    // Exponents of scales from `low` to `high` will be added to the format's own.
    Sums(const Rounding& r, int low_scale = 0, int high_scale = 0) {
        const uint32_t top = code_of(r.highest), normal_code = code_of(r.smallest_normal);
        const int least = r.step_exponent + low_scale, bits = r.significand_bits;
        if (r.is_float)
            suit = r.negative_zero && r.zero && !r.all_normal && bits >= 1 && bits <= 20 && least >= -94 &&
                   code_of(r.lowest) == (top | kSign) && code_of(r.above) == top && code_of(r.plus_infinity) == top &&
                   code_of(r.below) == (top | kSign) && code_of(r.minus_infinity) == (top | kSign) &&
                   int(top >> 23) - 127 + 23 - bits + high_scale <= 126 &&
                   r.step_exponent + bits == int(normal_code >> 23) - 127;
        else
            suit = !r.is_binary && r.wrap_bits == 0 && least >= -94 && r.step_exponent + high_scale <= 94 &&
                   r.highest <= power_of(30) * power_of(r.step_exponent) &&
                   r.lowest >= -power_of(30) * power_of(r.step_exponent);
        normal = all(normal_code);
        highest = all(top);
        exponent = all(0x7f800000u);
        to_whole = all(uint32_t(23 - bits) << 23);
        to_unit = all(uint32_t(23 + 32) << 23);
        keep = all(~0u << (32 - r.random_bits));
        sign = all(kSign);
        if (r.is_float || !suit) return;
        low = all(r.lowest);
        high = all(r.highest);
        step = all(power_of(r.step_exponent));
        per_step = all(power_of(-r.step_exponent));
        unit = all(0x1p-32f);
        middle = step * all(0x1.8p23f);
    }

  private:
    static constexpr uint32_t kSign = 0x80000000u;

    static uint32_t code_of(float v) {
        uint32_t c;
        memcpy(&c, &v, sizeof c);
        return c;
    }
    static float power_of(int exponent) {
        const uint32_t c = uint32_t(exponent + 127) << 23;
        float v;
        memcpy(&v, &c, sizeof v);
        return v;
    }
};

// Rounds floats that are not NaN; `normal` and `highest` are those of the format in units of a scale.
template <Mode M>
__attribute__((always_inline)) inline F round_float_by_sums(F x, [[maybe_unused]] U word, U normal, U highest,
                                                            const Sums& k) {
    const U sign = bits(x) & k.sign;
    const F size = value((U)smaller((I)(bits(x) & ~k.sign), (I)highest));
    const U whole = ((U)larger((I)bits(size), (I)normal) & k.exponent) + k.to_whole;
    F sum = size + value(whole);
#if defined(__AVX512F__)
    if constexpr (M == Mode::stochastic) {
        const F drawn = converted(word & k.keep);
        sum = add_truncated(multiply_add_truncated(drawn, value(whole - k.to_unit), size), value(whole));
    }
#endif
    return value(bits(sum - value(whole)) | sign);
}

#if defined(__AVX512F__)
// Rounds to fixed point, stochastically, what is not NaN: steps of `step`, one over which is `per_step`, between two
// limits.
__attribute__((always_inline)) inline F round_fixed_by_sums(F x, U word, F low, F high, F step, F per_step,
                                                            const Sums& k) {
    const F steps = larger(low, smaller(high, x)) * per_step;
    const F drawn = value(bits(converted(word & k.keep)) | (bits(steps) & k.sign));
    return multiply_add(truncated(multiply_add_truncated(drawn, k.unit, steps)), step, F{});
}
#endif

}  // namespace
}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
