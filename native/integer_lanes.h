// Vectors of bytes and their products, four at a time into 32-bit lanes, exact at every level; and what becomes of a
// vector of sums.
#pragma once

#include "integer.h"
#include "lanes.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

typedef uint8_t B __attribute__((vector_size(kLanes)));
typedef int8_t C __attribute__((vector_size(kLanes)));
typedef int16_t H __attribute__((vector_size(4 * kLanes)));

inline I load_sums(const int32_t* at) {
    I v;
    memcpy(&v, at, sizeof v);
    return v;
}

inline void store_sums(int32_t* at, I v) { memcpy(at, &v, sizeof v); }

inline I all_sums(int32_t value) { return value - I{}; }

inline B load_bytes(const uint8_t* at) {
    B v;
    memcpy(&v, at, sizeof v);
    return v;
}

// The first `count` bytes, the others zero; reads nothing beyond them.
inline B load_bytes(const uint8_t* at, int count) {
    if (count >= kLanes) return load_bytes(at);
#if defined(__AVX512F__)
    return (B)_mm_maskz_loadu_epi8(__mmask16((1u << count) - 1), at);
#else
    B v = {};
    for (int lane = 0; lane < count; ++lane) v[lane] = at[lane];
    return v;
#endif
}

inline void store_bytes(uint8_t* at, B v, int count) {
    if (count >= kLanes) {
        memcpy(at, &v, sizeof v);
        return;
    }
#if defined(__AVX512F__)
    _mm_mask_storeu_epi8(at, __mmask16((1u << count) - 1), (__m128i)v);
#else
    for (int lane = 0; lane < count; ++lane) at[lane] = v[lane];
#endif
}

inline I widened(B v) {
#if defined(__AVX512F__)
    return (I)_mm512_cvtepu8_epi32((__m128i)v);
#else
    return __builtin_convertvector(v, I);
#endif
}

inline I widened(C v) {
#if defined(__AVX512F__)
    return (I)_mm512_cvtepi8_epi32((__m128i)v);
#else
    return __builtin_convertvector(v, I);
#endif
}

inline B narrowed(I v) {
#if defined(__AVX512F__)
    return (B)_mm512_cvtepi32_epi8((__m512i)v);
#else
    return __builtin_convertvector(v, B);
#endif
}

inline F to_floats(I v) { return __builtin_convertvector(v, F); }

// The nearest whole numbers, halves to even, of numbers below 2^22.
inline I nearest(F v) {
#if defined(__AVX512F__)
    return (I)_mm512_cvtps_epi32((__m512)v);
#elif defined(__AVX2__)
    return (I)_mm256_cvtps_epi32((__m256)v);
#elif defined(__SSE2__)
    return (I)_mm_cvtps_epi32((__m128)v);
#else
    const F shift = all(12582912.0f);  // 1.5 * 2^23: the sum's last bits are the nearest integer
    return (I)(v + shift) - (I)shift;
#endif
}

// Sums of the products of the two 16-bit halves of each lane.
inline I multiply_halves(I a, I b) {
#if defined(__AVX512BW__)
    return (I)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
    return (I)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
    return (I)_mm_madd_epi16((__m128i)a, (__m128i)b);
#else
    return ((a << 16) >> 16) * ((b << 16) >> 16) + (a >> 16) * (b >> 16);
#endif
}

// sum + x w where both fit 16 bits; the upper halves of w are zero.
inline I add_product(I sum, I x, I w) {
#if defined(__AVX512VNNI__)
    return (I)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)x, (__m512i)w);
#else
    return sum + multiply_halves(x, w);
#endif
}

// Four bytes without sign, the same in all lanes; four signed bytes in each lane; and the sum of the four products.
#if defined(__AVX512VNNI__)
typedef I Left;
typedef I Right;

inline Left spread(const uint8_t* at) {
    int32_t four;
    memcpy(&four, at, sizeof four);
    return (Left)_mm512_set1_epi32(four);
}

inline Right columns(const int8_t* at) {
    Right v;
    memcpy(&v, at, sizeof v);
    return v;
}

inline I add_products(I sum, Left x, Right w) { return (I)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)x, (__m512i)w); }
#else
// Bytes 0 and 2, and 1 and 3, as 16-bit numbers: products of bytes would saturate when added in 16 bits.
struct Left {
    I even, odd;
};
struct Right {
    I even, odd;
};

inline Left spread(const uint8_t* at) {
    int32_t four;
    memcpy(&four, at, sizeof four);
    return {all_sums(four & 0xff00ff), all_sums((four >> 8) & 0xff00ff)};
}

inline Right columns(const int8_t* at) {
    H v;
    memcpy(&v, at, sizeof v);
    return {(I)((v << 8) >> 8), (I)(v >> 8)};
}

inline I add_products(I sum, const Left& x, const Right& w) {
    return sum + multiply_halves(x.even, w.even) + multiply_halves(x.odd, w.odd);
}
#endif

}  // namespace

// An epilogue with its per-channel numbers in arrays that may be read a vector beyond the last channel.
struct Finish {
    const IntegerEpilogue& epilogue;
    const int32_t* bias;
    const float* factor;
    void* y;
    long y_pitch;
    float low, high, middle_low, middle_high;
    bool plain;      // codes of the sums alone
    bool saturates;  // up to 255, from numbers that fit 32 bits

    Finish(const IntegerEpilogue& e, const int32_t* given_bias, const float* given_factor, void* target, long pitch,
           float largest_factor)
        : epilogue(e),
          bias(given_bias),
          factor(given_factor),
          y(target),
          y_pitch(pitch),
          low(float(e.low - e.zero)),
          high(float(e.high - e.zero)),
          middle_low(float(e.middle_low)),
          middle_high(float(e.middle_high)),
          plain(e.result == IntegerResult::codes && !e.residual),
          saturates(e.high == 255 && largest_factor < 0.9f) {}
};

namespace {

inline F within(F v, float low, float high) { return smaller(all(high), larger(all(low), v)); }

// Stores what becomes of `count` (at most kLanes) sums, bias included, of channels from `channel` on of output pixel
// `pixel`.
inline void finish(I sum, const Finish& f, long pixel, int channel, int count) {
    const IntegerEpilogue& e = f.epilogue;
    const long at = pixel * f.y_pitch + channel;
    if (e.result == IntegerResult::sums) {
        int32_t* const to = static_cast<int32_t*>(f.y) + at;
        count >= kLanes ? store_sums(to, sum) : store_part(reinterpret_cast<float*>(to), (F)sum, count);
        return;
    }
    F value = to_floats(sum) * load(f.factor + channel);
    if (e.result == IntegerResult::numbers) {
        float* const to = static_cast<float*>(f.y) + at;
        count >= kLanes ? store(to, value) : store_part(to, value, count);
        return;
    }
    if (e.residual) {
        const B more = load_bytes(e.residual + pixel * e.residual_pitch + channel, count);
        if (e.middle_factor != 0)
            value = to_floats(nearest(within(value, f.middle_low, f.middle_high))) * all(e.middle_factor);
        value += to_floats(widened(more) - all_sums(e.residual_zero)) * all(e.residual_factor);
    }
    const I codes = nearest(within(value, f.low, f.high)) + all_sums(e.zero);
    store_bytes(static_cast<uint8_t*>(f.y) + at, narrowed(codes), count);
}

// The same for whole vectors where `plain`.
inline void finish_plain(I sum, const Finish& f, long pixel, int channel) {
    const F value = to_floats(sum) * load(f.factor + channel);
    uint8_t* const to = static_cast<uint8_t*>(f.y) + pixel * f.y_pitch + channel;
#if defined(__AVX512F__)
    if (f.saturates) {
        const __m512i code = _mm512_add_epi32((__m512i)nearest(value), _mm512_set1_epi32(f.epilogue.zero));
        const __m512i least = _mm512_max_epi32(code, _mm512_set1_epi32(f.epilogue.low));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtusepi32_epi8(least));
        return;
    }
#endif
    const B codes = narrowed(nearest(within(value, f.low, f.high)) + all_sums(f.epilogue.zero));
    memcpy(to, &codes, sizeof codes);
}

// Bytes of the sum of each output channel's weights, with which prepared weights begin.
inline size_t weight_sums_bytes(const Convolution& v) {
    return (size_t(v.k) * sizeof(int32_t) + kAlignment - 1) / kAlignment * kAlignment;
}

inline void sum_weights(const Convolution& v, const int8_t* w_kcrs, int32_t* sums) {
    const long depth = long(v.r) * v.s * (v.c / v.groups);
    for (int k = 0; k < v.k; ++k) {
        sums[k] = 0;
        for (long d = 0; d < depth; ++d) sums[k] += w_kcrs[k * depth + d];
    }
}

// Bytes of the arrays that Finish reads, and how to fill them: the bias less what the zero point adds to every sum.
inline size_t finish_bytes(const Convolution& v) {
    return (size_t(v.k + kLanes) * sizeof(int32_t) + kAlignment - 1) / kAlignment * kAlignment * 2;
}

inline Finish prepare_finish(const Convolution& v, int offset, const int32_t* weight_sums, void* y,
                             const IntegerEpilogue& e, void* memory) {
    int32_t* const bias = static_cast<int32_t*>(memory);
    float* const factor = reinterpret_cast<float*>(static_cast<char*>(memory) + finish_bytes(v) / 2);
    float largest = 0.0f;
    for (int k = 0; k < v.k; ++k) {
        bias[k] = int32_t((e.bias ? uint32_t(e.bias[k]) : 0u) - uint32_t(offset) * uint32_t(weight_sums[k]));
        factor[k] = e.factor ? e.factor[k] : 0.0f;
        const float size = factor[k] < 0 ? -factor[k] : factor[k];
        if (!(size <= largest)) largest = size;
    }
    for (int k = v.k; k < v.k + kLanes; ++k) {
        bias[k] = 0;
        factor[k] = 0.0f;
    }
    return Finish(e, bias, factor, y, v.y_pitch, largest);
}

}  // namespace
}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
