// Products and sums of float lanes between the two float32 numbers around the exact result: rounded to odd, chopped,
// or both of them.
#pragma once

#include "rounded_lanes.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

// The float32 numbers around an exact result by their codes, of which one is odd; the same twice where it is one
// itself.
struct Around {
    F odd, even;
};

#if defined(__AVX512F__)
constexpr int kDown = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC, kUp = _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC,
              kToZero = _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC;

inline F odd_of(__m512 down, __m512 up) {
    return (F)_mm512_mask_blend_ps(_mm512_test_epi32_mask((__m512i)down, _mm512_set1_epi32(1)), up, down);
}

// Where both are even they are the same, but for the zeros of a cancelled sum, of which the upper one is right.
inline Around around_of(__m512 down, __m512 up) {
    return {odd_of(down, up),
            (F)_mm512_mask_blend_ps(_mm512_test_epi32_mask((__m512i)up, _mm512_set1_epi32(1)), up, down)};
}

inline F odd_product(F a, F b) {
    return odd_of(_mm512_mul_round_ps((__m512)a, (__m512)b, kDown), _mm512_mul_round_ps((__m512)a, (__m512)b, kUp));
}

inline Around around_product(F a, F b) {
    return around_of(_mm512_mul_round_ps((__m512)a, (__m512)b, kDown), _mm512_mul_round_ps((__m512)a, (__m512)b, kUp));
}

inline Around around_total(F a, F b) {
    return around_of(_mm512_add_round_ps((__m512)a, (__m512)b, kDown), _mm512_add_round_ps((__m512)a, (__m512)b, kUp));
}

inline Around around_fused(F s, F a, F b) {
    return around_of(_mm512_fmadd_round_ps((__m512)a, (__m512)b, (__m512)s, kDown),
                     _mm512_fmadd_round_ps((__m512)a, (__m512)b, (__m512)s, kUp));
}

inline F odd_total(F a, F b) {
    return odd_of(_mm512_add_round_ps((__m512)a, (__m512)b, kDown), _mm512_add_round_ps((__m512)a, (__m512)b, kUp));
}

inline F odd_fused(F s, F a, F b) {
    return odd_of(_mm512_fmadd_round_ps((__m512)a, (__m512)b, (__m512)s, kDown),
                  _mm512_fmadd_round_ps((__m512)a, (__m512)b, (__m512)s, kUp));
}

inline F chopped_product(F a, F b) { return (F)_mm512_mul_round_ps((__m512)a, (__m512)b, kToZero); }
inline F chopped_total(F a, F b) { return (F)_mm512_add_round_ps((__m512)a, (__m512)b, kToZero); }
inline F chopped_fused(F s, F a, F b) { return (F)_mm512_fmadd_round_ps((__m512)a, (__m512)b, (__m512)s, kToZero); }
inline F nearest_fused(F s, F a, F b) { return (F)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)s); }
#else
inline Pair exact_product(F a, F b) {
    const Pair wide_a(a), wide_b(b);
    return {wide_a.low * wide_b.low, wide_a.high * wide_b.high};
}

inline Pair wide_fused(F s, F a, F b) {
    const Pair wide(s), product = exact_product(a, b);
    return {odd_sum(wide.low, product.low), odd_sum(wide.high, product.high)};
}

inline Pair wide_total(F a, F b) {
    const Pair wide_a(a), wide_b(b);
    return {odd_sum(wide_a.low, wide_b.low), odd_sum(wide_a.high, wide_b.high)};
}

inline Around around_of(const Pair& exact) { return {narrow_odd(exact), narrow_even(exact)}; }

inline F odd_product(F a, F b) { return narrow_odd(exact_product(a, b)); }
inline F odd_total(F a, F b) { return narrow_odd(wide_total(a, b)); }
inline Around around_product(F a, F b) { return around_of(exact_product(a, b)); }
inline Around around_total(F a, F b) { return around_of(wide_total(a, b)); }
inline Around around_fused(F s, F a, F b) { return around_of(wide_fused(s, a, b)); }

inline F odd_fused(F s, F a, F b) { return narrow_odd(wide_fused(s, a, b)); }

// With one bit less to look at, odd serves where chopped would.
inline F chopped_product(F a, F b) { return odd_product(a, b); }
inline F chopped_total(F a, F b) { return odd_total(a, b); }
inline F chopped_fused(F s, F a, F b) { return odd_fused(s, a, b); }

inline F nearest_fused(F s, F a, F b) {
    const Pair odd = wide_fused(s, a, b);
    return join(__builtin_convertvector(odd.low, HalfF), __builtin_convertvector(odd.high, HalfF));
}
#endif

}  // namespace
}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
