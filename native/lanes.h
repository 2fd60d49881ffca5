// The vectors of one instruction set: types of the compiler's vector extension, and the few operations it lacks.
//
// A file that includes this is compiled once per level with CONVSMITH_LEVEL naming the namespace, and must include no
// C++ library header: an inline function compiled here for AVX-512 could otherwise be the copy that the linker keeps
// for every processor.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float F __attribute__((vector_size(4 * kLanes)));
typedef int32_t I __attribute__((vector_size(4 * kLanes)));
typedef uint32_t U __attribute__((vector_size(4 * kLanes)));

inline F load(const float* at) {
    F v;
    memcpy(&v, at, sizeof v);
    return v;
}

inline void store(float* at, F v) { memcpy(at, &v, sizeof v); }

// The first `count` lanes, the others zero; reads nothing beyond them.
inline F load_part(const float* at, int count) {
#if defined(__AVX512F__)
    return (F)_mm512_maskz_loadu_ps(__mmask16((1u << count) - 1), at);
#else
    F v = {};
    for (int lane = 0; lane < count; ++lane) v[lane] = at[lane];
    return v;
#endif
}

// Writes the first `count` lanes and nothing beyond them.
inline void store_part(float* at, F v, int count) {
#if defined(__AVX512F__)
    _mm512_mask_storeu_ps(at, __mmask16((1u << count) - 1), (__m512)v);
#else
    for (int lane = 0; lane < count; ++lane) at[lane] = v[lane];
#endif
}

inline F all(float value) { return value - F{}; }

inline U all(uint32_t value) { return value - U{}; }

inline U bits(F v) { return (U)v; }

inline F value(U v) { return (F)v; }

// a < b ? a : b and a > b ? a : b: the second operand where either is NaN.
inline F smaller(F a, F b) {
#if defined(__AVX512F__)
    return (F)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (F)_mm256_min_ps((__m256)a, (__m256)b);
#elif defined(__SSE2__)
    return (F)_mm_min_ps((__m128)a, (__m128)b);
#else
    return a < b ? a : b;
#endif
}

inline F larger(F a, F b) {
#if defined(__AVX512F__)
    return (F)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (F)_mm256_max_ps((__m256)a, (__m256)b);
#elif defined(__SSE2__)
    return (F)_mm_max_ps((__m128)a, (__m128)b);
#else
    return a > b ? a : b;
#endif
}

inline I smaller(I a, I b) {
#if defined(__AVX512F__)
    return (I)_mm512_min_epi32((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
    return (I)_mm256_min_epi32((__m256i)a, (__m256i)b);
#else
    return a < b ? a : b;
#endif
}

inline I larger(I a, I b) {
#if defined(__AVX512F__)
    return (I)_mm512_max_epi32((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
    return (I)_mm256_max_epi32((__m256i)a, (__m256i)b);
#else
    return a > b ? a : b;
#endif
}

inline bool any(I mask) {
#if defined(__AVX512F__)
    return _mm512_test_epi32_mask((__m512i)mask, (__m512i)mask) != 0;
#elif defined(__AVX2__)
    return _mm256_testz_si256((__m256i)mask, (__m256i)mask) == 0;
#elif defined(__SSE2__)
    return _mm_movemask_epi8((__m128i)mask) != 0;
#else
    int32_t found = 0;
    for (int lane = 0; lane < kLanes; ++lane) found |= mask[lane];
    return found != 0;
#endif
}

// 32 x 32 bits to 64, the halves apart; the multiplier is the same in all lanes.
inline void multiply_wide(U a, U multiplier, U& high, U& low) {
#if defined(__AVX512F__)
    const __m512i m = (__m512i)multiplier;
    const __m512i even = _mm512_mul_epu32((__m512i)a, m), odd = _mm512_mul_epu32(_mm512_srli_epi64((__m512i)a, 32), m);
    high = (U)_mm512_mask_shuffle_epi32(odd, 0x5555, even, _MM_PERM_DDBB);
    low = (U)_mm512_mask_shuffle_epi32(even, 0xAAAA, odd, _MM_PERM_CCAA);
#elif defined(__AVX2__)
    const __m256i m = (__m256i)multiplier;
    const __m256i even = _mm256_mul_epu32((__m256i)a, m), odd = _mm256_mul_epu32(_mm256_srli_epi64((__m256i)a, 32), m);
    high = (U)_mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA);
    low = (U)_mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA);
#elif defined(__SSE2__)
    const __m128i m = (__m128i)multiplier;
    const __m128i even = _mm_mul_epu32((__m128i)a, m), odd = _mm_mul_epu32(_mm_srli_epi64((__m128i)a, 32), m);
    const __m128i upper = _mm_set_epi32(-1, 0, -1, 0);
    high = (U)_mm_or_si128(_mm_srli_epi64(even, 32), _mm_and_si128(odd, upper));
    low = (U)_mm_or_si128(_mm_andnot_si128(upper, even), _mm_slli_epi64(odd, 32));
#else
    for (int lane = 0; lane < kLanes; ++lane) {
        const uint64_t product = uint64_t(a[lane]) * multiplier[lane];
        high[lane] = uint32_t(product >> 32);
        low[lane] = uint32_t(product);
    }
#endif
}

// The 64-bit products of the even lanes, of which the multiplier is the same in all.
inline U multiply_even(U a, U multiplier) {
#if defined(__AVX512F__)
    return (U)_mm512_mul_epu32((__m512i)a, (__m512i)multiplier);
#elif defined(__AVX2__)
    return (U)_mm256_mul_epu32((__m256i)a, (__m256i)multiplier);
#elif defined(__SSE2__)
    return (U)_mm_mul_epu32((__m128i)a, (__m128i)multiplier);
#else
    U product;
    for (int lane = 0; lane < kLanes; lane += 2) {
        const uint64_t wide = uint64_t(a[lane]) * multiplier[lane];
        memcpy(reinterpret_cast<char*>(&product) + lane * sizeof(uint32_t), &wide, sizeof wide);
    }
    return product;
#endif
}

// The upper halves of 64-bit lanes, moved down.
inline U upper_halves(U v) {
    typedef uint64_t Wide __attribute__((vector_size(4 * kLanes)));
    return (U)((Wide)v >> 32);
}

// The lower halves of the 64-bit lanes of two vectors by turns.
inline U interleaved(U even, U odd) {
#if defined(__AVX512F__)
    return (U)_mm512_mask_shuffle_epi32((__m512i)even, 0xAAAA, (__m512i)odd, _MM_PERM_CCAA);
#elif defined(__AVX2__)
    return (U)_mm256_blend_epi32((__m256i)even, _mm256_slli_epi64((__m256i)odd, 32), 0xAA);
#else
    typedef uint64_t Wide __attribute__((vector_size(4 * kLanes)));
    return (U)(((Wide)even & 0xffffffffu) | (Wide)odd << 32);
#endif
}

}  // namespace
}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
