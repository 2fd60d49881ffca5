// Convolutions and operators of 8-bit codes with exact 32-bit sums: what is asked for, and what an algorithm is. Plain
// data.
//
// A code q stands for (q - zero) * scale. Sums are whole numbers, so every level and every order gives the same bits.
//
// This header is included by files that are compiled for one instruction set only, so it must not define any function.
#pragma once

#include <stdint.h>

#include "convolution.h"
#include "operators.h"

namespace convsmith {

// Beyond so many products a sum of (x - zero) w might not fit 32 bits: 255 * 128 * 65793 < 2^31.
constexpr long kMostProducts = 65793;

// The image of an integer convolution: its codes are bytes without sign, or with one; taps in the padding hold `zero`.
struct IntegerInput {
    int zero;
    bool is_signed;
};

enum class IntegerResult : int { sums, numbers, codes };
constexpr int kIntegerResults = 3;

// What becomes of sum + bias[k], with `value` the nearest float32 of it times factor[k]:
//  - sums: itself, int32;
//  - numbers: value, float32;
//  - codes: bytes without sign, zero + the whole number nearest to value (halves to even), within low .. high.
// Before codes are made of it a residual may be added, (its code - residual_zero) * residual_factor. `value` is first
// rounded to a code of its own if middle_factor is not 0: to the nearest whole number within middle_low .. middle_high,
// which are counted from the code's zero point, times middle_factor. Each operation is rounded to float32.
struct IntegerEpilogue {
    const int32_t* bias;  // or null
    const float* factor;  // k values, not for sums
    IntegerResult result;
    int zero, low, high;
    const uint8_t* residual;  // NHWC of the output's sizes with residual_pitch bytes a pixel, or null; may be y itself
    int residual_pitch, residual_zero;
    float residual_factor, middle_factor;
    int middle_low, middle_high;
};

// One way to convolve codes at one instruction set, as ConvolutionAlgorithm; pitches count elements.
struct IntegerAlgorithm {
    const char* name;
    bool (*supports)(const Convolution&);
    size_t (*prepared_bytes)(const Convolution&);
    void (*prepare)(const Convolution&, const int8_t* w_kcrs, void* prepared);
    size_t (*workspace_bytes)(const Convolution&, int threads);
    void (*run)(const Convolution&, const IntegerInput&, const uint8_t* x, const void* prepared, void* y,
                const IntegerEpilogue&, void* workspace, int threads);
};

// Elementwise operators on contiguous arrays; an item is kChunk elements of `size`.

// y = zero + the whole number nearest to x / scale, within 0 .. 255; a NaN gives zero.
struct Quantisation {
    long size;
    float scale;
    int zero;
};

// y = table[x], of 256 codes.
struct LookUp {
    long size;
};

// y = clip(zero + nearest(fl(fl(a - a_zero) a_factor) + fl(fl(b - b_zero) b_factor))), within low .. high.
struct IntegerSum {
    long size;
    int a_zero, b_zero;
    float a_factor, b_factor;
    int zero, low, high;
};

// Codes of the largest, or of the average, over windows: nearest(fl(fl(sum of x - x_zero) * fl(factor / count))) + zero
// within low .. high. An item is one row of the result.
struct IntegerPooling {
    Pooling windows;
    int x_zero;
    float factor;
    int zero, low, high;
};

// The integer kernels of one level; the first algorithm supports every convolution of at most kMostProducts a sum.
struct IntegerTable {
    const IntegerAlgorithm* const* entries;
    int count;
    void (*quantise)(const Quantisation&, const float* x, uint8_t* y, long first, long last);
    void (*dequantise)(const Quantisation&, const uint8_t* x, float* y, long first, long last);
    void (*look_up)(const LookUp&, const uint8_t* x, const uint8_t* table, uint8_t* y, long first, long last);
    void (*add)(const IntegerSum&, const uint8_t* a, const uint8_t* b, uint8_t* y, long first, long last);
    void (*pool)(const IntegerPooling&, const uint8_t* x, uint8_t* y, long first, long last);
    void (*copy)(const Copy&, const uint8_t* a, uint8_t* y, long first, long last);
};

}  // namespace convsmith
