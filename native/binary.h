// Sums of products of signs packed 64 to a word: what is asked for, and what one instruction set offers. Plain data.
//
// A set bit is -1, a clear one +1. Bits beyond the last sign are clear. A ternary operand has a second plane after the
// first, word by word: a set bit there says "not zero". This header must not define any function: it is included by
// files that are compiled for one instruction set only.
//
// References: Courbariaux et al. 2016, Binarized Neural Networks (arXiv 1602.02830), section 1.3 and 4;
// Li et al. 2016, Ternary Weight Networks (arXiv 1605.04711).
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "convolution.h"
#include "operators.h"

namespace convsmith {

// How many planes the left operand (activations) and the right operand (weights) have.
enum class Planes : int { binary, ternary_right, ternary };
constexpr int kPlaneKinds = 3;

constexpr int left_planes(Planes planes) { return planes == Planes::ternary ? 2 : 1; }
constexpr int right_planes(Planes planes) { return planes == Planes::binary ? 1 : 2; }

// c[row][column] = sum over the signs of a[row] and b[column], both with `words` words a plane. Right operands are
// packed by `prepare`; `base[column]` is the sum's value where no sign differs (the number of signs, or of those not
// zero; 0 where both are ternary).
struct BinaryProduct {
    long rows, columns, words;
    Planes planes;
};

// What becomes of a sum before it is stored, for every output channel of all groups.
//   sums: int32. scaled: float, scale[k] * sum + shift[k]. signs: packed, set where direction[k] * sum < threshold[k].
enum class BinaryOutput : int { sums, scaled, signs };

struct BinaryEpilogue {
    BinaryOutput output;
    const float *scale, *shift;
    const int32_t *direction, *threshold;  // direction is 1 or -1
};

// A convolution of packed NHWC images: every pixel has, group by group, ceil(c / groups / 64) words a plane. `border`
// says what taps outside of the image see: nothing (zero padding) or +1. `base` as above; `tap_sums`, for zero padding,
// is [r][s][k]: the sum of the weights of a tap.
struct BinaryConvolution {
    Convolution sizes;
    Planes planes;
    bool zero_border;
    const int32_t* base;
    const int32_t* tap_sums;
};

// Pooling of packed signs: `windows.c` and the pitches count words of 64 channels.
struct SignPooling {
    Pooling windows;
};

// Packed rows, and floats `pitch` apart.
struct SignRows {
    long count, channels, pitch;
};

struct BinaryTable {
    // Packs rows of `channels` floats, `pitch` apart: set where x < 0, so that both zeros are +1. False when a NaN was
    // seen (packed as +1).
    bool (*pack_signs)(const float* x, long rows, int channels, long pitch, uint64_t* packed);
    size_t (*prepared_words)(const BinaryProduct&);
    void (*prepare)(const BinaryProduct&, const uint64_t* b, uint64_t* prepared);
    void (*multiply)(const BinaryProduct&, const uint64_t* a, const uint64_t* prepared, const int32_t* base, int32_t* c,
                     int threads);
    // `prepared`: the product of every group one after the other, with r * s * words of a pixel's group as words.
    size_t (*workspace_bytes)(const BinaryConvolution&, int threads);
    void (*convolve)(const BinaryConvolution&, const uint64_t* x, const uint64_t* prepared, void* y,
                     const BinaryEpilogue&, void* workspace, int threads);
    // The largest sign of each window, the smallest where a bit of `smallest` is set; items are rows of the result.
    void (*pool)(const SignPooling&, const uint64_t* x, const uint64_t* smallest, uint64_t* y, long first, long last);
    void (*unpack)(const SignRows&, const uint64_t* x, float* y, long first, long last);
};

}  // namespace convsmith
