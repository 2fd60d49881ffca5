// The double-precision companions of lanes.h: vectors of half as many lanes.
#pragma once

#include "lanes.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

constexpr int kLanes64 = kLanes / 2;

typedef double F64 __attribute__((vector_size(8 * kLanes64)));
typedef int64_t I64 __attribute__((vector_size(8 * kLanes64)));
typedef uint64_t U64 __attribute__((vector_size(8 * kLanes64)));
typedef float HalfF __attribute__((vector_size(4 * kLanes64)));
typedef uint32_t HalfU __attribute__((vector_size(4 * kLanes64)));

inline F64 load(const double* at) {
    F64 v;
    memcpy(&v, at, sizeof v);
    return v;
}

inline void store(double* at, F64 v) { memcpy(at, &v, sizeof v); }

inline F64 widened(const float* at) {
    HalfF v;
    memcpy(&v, at, sizeof v);
    return __builtin_convertvector(v, F64);
}

inline U64 widened(const uint32_t* at) {
    HalfU v;
    memcpy(&v, at, sizeof v);
    return __builtin_convertvector(v, U64);
}

inline void store_narrowed(float* at, F64 v) {
    const HalfF narrow = __builtin_convertvector(v, HalfF);
    memcpy(at, &narrow, sizeof narrow);
}

inline F64 all(double value) { return value - F64{}; }

inline U64 all(uint64_t value) { return value - U64{}; }

inline U64 bits(F64 v) { return (U64)v; }

inline F64 value(U64 v) { return (F64)v; }

// a < b ? a : b and a > b ? a : b: the second operand where either is NaN.
inline F64 smaller(F64 a, F64 b) {
#if defined(__AVX512F__)
    return (F64)_mm512_min_pd((__m512d)a, (__m512d)b);
#elif defined(__AVX2__)
    return (F64)_mm256_min_pd((__m256d)a, (__m256d)b);
#elif defined(__SSE2__)
    return (F64)_mm_min_pd((__m128d)a, (__m128d)b);
#else
    return a < b ? a : b;
#endif
}

inline F64 larger(F64 a, F64 b) {
#if defined(__AVX512F__)
    return (F64)_mm512_max_pd((__m512d)a, (__m512d)b);
#elif defined(__AVX2__)
    return (F64)_mm256_max_pd((__m256d)a, (__m256d)b);
#elif defined(__SSE2__)
    return (F64)_mm_max_pd((__m128d)a, (__m128d)b);
#else
    return a > b ? a : b;
#endif
}

inline bool any(I64 mask) { return any((I)mask); }

// The vectors of one element type.
template <typename T>
struct Lane;

template <>
struct Lane<float> {
    typedef F Value;
    typedef I Signed;
    typedef U Code;
    typedef uint32_t Bits;
    static constexpr int count = kLanes, width = 32, fraction = 23, bias = 127;
    // Exponents within which powers of two, and their products with 2^24, are normal numbers.
    static constexpr int safe = 100;
};

template <>
struct Lane<double> {
    typedef F64 Value;
    typedef I64 Signed;
    typedef U64 Code;
    typedef uint64_t Bits;
    static constexpr int count = kLanes64, width = 64, fraction = 52, bias = 1023;
    static constexpr int safe = 900;
};

}  // namespace
}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
