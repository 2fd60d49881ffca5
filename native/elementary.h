// Elementary functions of vectors beside those of finish.h. Errors are in units in the last place of float32, measured
// against float64 over all magnitudes (tests/kernels/test_native_operators.py).
#pragma once

#include "finish.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

inline F blend(I mask, F yes, F no) { return (F)(((I)yes & mask) | ((I)no & ~mask)); }

inline F absolute(F v) { return value(bits(v) & 0x7fffffffu); }

inline F with_sign(F size, F sign) { return value(bits(size) | (bits(sign) & 0x80000000u)); }

// 1 + 2 / (e^2v - 1) loses digits near zero, where a polynomial of v^2 takes over (Cephes' tanhf).
inline F hyperbolic_tangent(F v) {
    const F size = absolute(v), square = v * v;
    F p = all(-5.70498872745e-3f) * square + all(2.06390887954e-2f);
    p = p * square + all(-5.37397155531e-2f);
    p = p * square + all(1.33314422036e-1f);
    p = p * square + all(-3.33332819422e-1f);
    const F near = p * square * v + v;
    const F far = with_sign(all(1.0f) - all(2.0f) / (exponential(size + size) + all(1.0f)), v);
    return blend(size < all(0.625f), near, far);
}

// A rational approximation x P(x^2) / Q(x^2) on -4 .. 4, beyond which erf is 1 in float32 (Eigen's generic_fast_erf).
inline F error_function(F v) {
    const F x = clipped(v, -4.0f, 4.0f), square = x * x;
    F p = all(-2.72614225801306e-10f) * square + all(2.77068142495902e-08f);
    p = p * square + all(-2.10102402082508e-06f);
    p = p * square + all(-5.69250639462346e-05f);
    p = p * square + all(-7.34990630326855e-04f);
    p = p * square + all(-2.95459980854025e-03f);
    p = p * square + all(-1.60960333262415e-02f);
    F q = all(-1.45660718464996e-05f) * square + all(-2.13374055278905e-04f);
    q = q * square + all(-1.68282697438203e-03f);
    q = q * square + all(-7.37332916720468e-03f);
    q = q * square + all(-1.42647390514189e-02f);
    return x * p / q;
}

// Functions that networks use rarely go through the C library, one lane at a time.
template <float (*Scalar)(float)>
inline F lane_by_lane(F v) {
    F result;
    for (int lane = 0; lane < kLanes; ++lane) result[lane] = Scalar(v[lane]);
    return result;
}

inline float scalar_exp(float v) { return __builtin_expf(v); }
inline float scalar_log(float v) { return __builtin_logf(v); }
inline float scalar_log1p(float v) { return __builtin_log1pf(v); }
inline float scalar_expm1(float v) { return __builtin_expm1f(v); }
inline float scalar_sqrt(float v) { return __builtin_sqrtf(v); }
inline float scalar_floor(float v) { return __builtin_floorf(v); }
inline float scalar_ceil(float v) { return __builtin_ceilf(v); }
inline float scalar_round(float v) { return __builtin_rintf(v); }

// log(1 + e^v) without overflow.
inline F soft_plus(F v) {
    return clipped(v, 0.0f, __builtin_inff()) + lane_by_lane<scalar_log1p>(exponential(-absolute(v)));
}

inline F root(F v) {
#if defined(__AVX512F__)
    return (F)_mm512_sqrt_ps((__m512)v);
#elif defined(__AVX2__)
    return (F)_mm256_sqrt_ps((__m256)v);
#elif defined(__SSE2__)
    return (F)_mm_sqrt_ps((__m128)v);
#else
    return lane_by_lane<scalar_sqrt>(v);
#endif
}

// The sum, or another fold, of all lanes, in an order that does not depend on anything.
inline float sum_of_lanes(F v) {
    float sum = 0;
    for (int lane = 0; lane < kLanes; ++lane) sum += v[lane];
    return sum;
}

}  // namespace
}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
