// What becomes of a vector of sums before it is stored: bias, residual and activation of an Epilogue.
#pragma once

#include "convolution.h"
#include "lanes.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

// e^v within 2 units in the last place (Cephes' expf: Cody-Waite reduction and a polynomial of degree 5); arguments are
// clipped to where the result is a normal number, NaN stays.
inline F exponential(F v) {
    v = smaller(all(88.0f), larger(all(-87.0f), v));
    const F shift = all(12582912.0f);  // 1.5 * 2^23: the sum's last bits are the nearest integer
    const F shifted = v * all(1.44269504088896341f) + shift, n = shifted - shift;
    const F rest = v - n * all(0.693359375f) + n * all(2.12194440e-4f);
    F p = all(1.9875691500e-4f) * rest + all(1.3981999507e-3f);
    p = p * rest + all(8.3334519073e-3f);
    p = p * rest + all(4.1665795894e-2f);
    p = p * rest + all(1.6666665459e-1f);
    p = p * rest + all(5.0000001201e-1f);
    p = p * rest * rest + rest + all(1.0f);
    const U power = ((bits(shifted) - bits(shift)) + 127u) << 23;
    return p * value(power);
}

inline F logistic(F v) { return all(1.0f) / (all(1.0f) + exponential(-v)); }

// The operand that may be NaN comes second: `larger` and `smaller` then return it.
inline F clipped(F v, float low, float high) { return smaller(all(high), larger(all(low), v)); }

inline F activate(F v, const Epilogue& e) {
    switch (e.activation) {
        case Activation::none:
            return v;
        case Activation::relu:
            return larger(all(0.0f), v);
        case Activation::clip:
            return clipped(v, e.low, e.high);
        case Activation::silu:
            return v * logistic(v);
        case Activation::hard_swish:
            return v * clipped(v * all(1.0f / 6) + all(0.5f), 0.0f, 1.0f);
        case Activation::hard_sigmoid:
            return clipped(v * all(1.0f / 6) + all(0.5f), 0.0f, 1.0f);
        case Activation::sigmoid:
            return logistic(v);
    }
    return v;
}

// Whether results had better go past the caches: a store of what is not there reads it first, which results that are
// larger than the caches pay with a third of the memory's traffic (1x1, 16 to 96 channels, batch 16: 5.2 ms against
// 3.7). Only where a vector is a whole line.
inline bool worth_streaming(const Convolution& v, const float* y) {
#if defined(__AVX512F__)
    const long bytes = long(v.n) * v.out_h * v.out_w * v.k * long(sizeof(float));
    const bool whole = v.y_pitch % kLanes == 0 && (v.groups == 1 || v.groups == v.k);
    return whole && bytes >= (long(24) << 20) && reinterpret_cast<uintptr_t>(y) % kAlignment == 0;
#else
    (void)v, (void)y;
    return false;
#endif
}

// The epilogue as this level stores its results.
inline Epilogue stored(const Epilogue& given, const Convolution& v, const float* y) {
    Epilogue e = given;
    e.streams = worth_streaming(v, y);
    return e;
}

// Ends a part: other threads see streamed results only after this.
inline void end_streams(const Epilogue& e) {
#if defined(__AVX512F__)
    if (e.streams) _mm_sfence();
#else
    (void)e;
#endif
}

inline void store_result(float* to, F v, bool streams) {
#if defined(__AVX512F__)
    if (streams) return _mm512_stream_ps(to, (__m512)v);
#else
    (void)streams;
#endif
    store(to, v);
}

// Stores `count` (at most kLanes) channels from `channel` on of output pixel `pixel`, whose sums are v.
inline void finish(F v, const Epilogue& e, float* y, int y_pitch, long pixel, int channel, int count) {
    float* const to = y + pixel * y_pitch + channel;
    const float* const more = e.residual ? e.residual + pixel * e.residual_pitch + channel : nullptr;
    if (count >= kLanes) {
        if (e.bias) v += load(e.bias + channel);
        if (more) v += load(more);
        store_result(to, activate(v, e), e.streams);
    } else {
        if (e.bias) v += load_part(e.bias + channel, count);
        if (more) v += load_part(more, count);
        store_part(to, activate(v, e), count);
    }
}

template <bool Streams, class Activate>
inline void finish_column(const float* sums, long pitch, int rows, const Epilogue& e, float* y, long y_pitch,
                          const Activate& activated) {
    const F bias = e.bias ? load(e.bias) : F{};
    if (e.residual) {
        for (int row = 0; row < rows; ++row)
            store_result(y + row * y_pitch,
                         activated(load(sums + row * pitch) + bias + load(e.residual + row * long(e.residual_pitch))),
                         Streams);
    } else {
        for (int row = 0; row < rows; ++row)
            store_result(y + row * y_pitch, activated(load(sums + row * pitch) + bias), Streams);
    }
}

// Stores a tile of sums, rows `pitch` floats apart: `count` channels from `channel` on of `rows` pixels from `pixel`
// on. What all pixels share, bias and choice of activation, is found once for a vector of channels.
inline void finish_tile(const float* sums, long pitch, int rows, const Epilogue& e, float* y, int y_pitch, long pixel,
                        int channel, int count) {
    for (; count >= kLanes; count -= kLanes, channel += kLanes, sums += kLanes) {
        Epilogue here = e;
        if (e.bias) here.bias += channel;
        if (e.residual) here.residual += pixel * e.residual_pitch + channel;
        float* const to = y + pixel * y_pitch + channel;
        const auto each = [&](auto activated) {
            e.streams ? finish_column<true>(sums, pitch, rows, here, to, y_pitch, activated)
                      : finish_column<false>(sums, pitch, rows, here, to, y_pitch, activated);
        };
        if (e.activation == Activation::none)
            each([](F v) { return v; });
        else if (e.activation == Activation::relu)
            each([](F v) { return larger(all(0.0f), v); });
        else if (e.activation == Activation::clip)
            each([&](F v) { return clipped(v, e.low, e.high); });
        else
            each([&](F v) { return activate(v, e); });
    }
    if (count > 0)
        for (int row = 0; row < rows; ++row)
            finish(load(sums + row * pitch), e, y, y_pitch, pixel + row, channel, count);
}

}  // namespace
}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
