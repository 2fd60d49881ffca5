// Convolutions of float32 images in NHWC: what is asked for, and what an algorithm is. Plain data.
//
// This header is included by files that are compiled for one instruction set only, so it must not define any function.
#pragma once

#include <stddef.h>

namespace convsmith {

// Sizes of one convolution. Weights come as KCRS with c / groups channels; out_h and out_w may be smaller than what
// padding and stride allow, never larger. A pixel's channels are contiguous; pixels lie x_pitch (y_pitch) floats apart
// (at least c and k), rows and images follow without gaps, so that several layers can share one concatenated tensor.
struct Convolution {
    int n, c, h, w, k, r, s;
    int stride_h, stride_w, dilation_h, dilation_w;
    int pad_top, pad_left, pad_bottom, pad_right;
    int groups;
    int out_h, out_w;
    int x_pitch, y_pitch;
};

enum class Activation : int { none, relu, clip, silu, hard_swish, hard_sigmoid, sigmoid };
constexpr int kActivations = 7;

// What becomes of a sum before it is stored: activation(sum + bias[k] + residual). A NaN stays a NaN.
struct Epilogue {
    const float* bias;      // k values, or null
    const float* residual;  // NHWC of the output's sizes with residual_pitch floats a pixel, or null; may be y itself
    int residual_pitch;
    Activation activation;
    float low, high;  // of clip
    bool streams;     // whole vectors go to memory past the caches; set by the algorithms themselves
};

// One way to convolve at one instruction set. `run` neither allocates nor keeps anything; x and y do not overlap, and
// every element of y that the sizes name is written, nothing else. The result does not depend on `threads`.
struct ConvolutionAlgorithm {
    const char* name;
    bool (*supports)(const Convolution&);
    // Floats that `prepare` writes: the weights in the order that this level of this algorithm reads.
    size_t (*prepared_floats)(const Convolution&);
    void (*prepare)(const Convolution&, const float* w_kcrs, float* prepared);
    // For a run with exactly as many threads: fewer threads can need more, since the work is then cut into fewer parts.
    size_t (*workspace_bytes)(const Convolution&, int threads);
    // `prepared` and `workspace` begin at multiples of kAlignment bytes; x, y, bias and residual anywhere.
    void (*run)(const Convolution&, const float* x, const float* prepared, float* y, const Epilogue&, void* workspace,
                int threads);
};

constexpr size_t kAlignment = 64;

// The algorithms of one level; the first supports every convolution.
struct ConvolutionTable {
    const ConvolutionAlgorithm* const* entries;
    int count;
};

}  // namespace convsmith
