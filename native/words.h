// Vectors of 64-bit words and how many bits of each are set, for one instruction set (see lanes.h for the rules).
#pragma once

#include "lanes.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

constexpr int kWords = kLanes / 2;

typedef uint64_t W __attribute__((vector_size(8 * kWords)));
typedef int64_t L __attribute__((vector_size(8 * kWords)));
typedef int32_t N __attribute__((vector_size(4 * kWords)));

inline W load(const uint64_t* at) {
    W v;
    memcpy(&v, at, sizeof v);
    return v;
}

inline W all(uint64_t value) { return value - W{}; }

// The set bits of every word. Without an instruction: tables of 16 counts by shuffling bytes (Mula, Kurz, Lemire 2018,
// arXiv 1611.07612), or sums of neighbouring bits, pairs and fours (Knuth, The Art of Computer Programming 4A, 7.1.3).
inline W population(W v) {
#if defined(__AVX512VPOPCNTDQ__)
    return (W)_mm512_popcnt_epi64((__m512i)v);
#elif defined(__AVX512BW__)
    const __m512i counts = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    const __m512i low = _mm512_set1_epi8(15);
    const __m512i first = _mm512_shuffle_epi8(counts, _mm512_and_si512((__m512i)v, low));
    const __m512i second = _mm512_shuffle_epi8(counts, _mm512_and_si512(_mm512_srli_epi16((__m512i)v, 4), low));
    return (W)_mm512_sad_epu8(_mm512_add_epi8(first, second), _mm512_setzero_si512());
#elif defined(__AVX2__)
    const __m256i counts = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    const __m256i low = _mm256_set1_epi8(15);
    const __m256i first = _mm256_shuffle_epi8(counts, _mm256_and_si256((__m256i)v, low));
    const __m256i second = _mm256_shuffle_epi8(counts, _mm256_and_si256(_mm256_srli_epi16((__m256i)v, 4), low));
    return (W)_mm256_sad_epu8(_mm256_add_epi8(first, second), _mm256_setzero_si256());
#else
    v -= (v >> 1) & all(uint64_t(0x5555555555555555));
    v = (v & all(uint64_t(0x3333333333333333))) + ((v >> 2) & all(uint64_t(0x3333333333333333)));
    v = (v + (v >> 4)) & all(uint64_t(0x0f0f0f0f0f0f0f0f));
    v += v >> 8;
    v += v >> 16;
    v += v >> 32;
    return v & all(uint64_t(0x7f));
#endif
}

}  // namespace
}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
