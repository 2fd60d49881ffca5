// The operators of a network beside the convolution, on float32 arrays: what is asked for, and one table an instruction
// set. Plain data; every function computes a range of independent items, so that the caller can share them out.
//
// This header is included by files that are compiled for one instruction set only, so it must not define any function.
#pragma once

#include <stddef.h>

namespace convsmith {

constexpr int kAxes = 8;

// A nest of loops, outermost first, and how far apart in floats its elements lie in the result y and the operands a and
// b (0 repeats an element).
struct Loop {
    int rank;
    long size[kAxes], y[kAxes], a[kAxes], b[kAxes];
};

enum class Unary : int {
    relu,
    clip,        // to alpha .. beta
    leaky_relu,  // alpha
    elu,         // alpha
    sigmoid,
    silu,
    hard_sigmoid,  // alpha x + beta, to 0 .. 1
    hard_swish,
    tanh,
    gelu,
    gelu_tanh,
    mish,
    softplus,
    erf,
    exp,
    log,
    sqrt,
    reciprocal,
    abs,
    neg,
    floor,
    ceil,
    round,  // halves to even
    sign,
};

enum class Binary : int { add, sub, mul, div, min, max, pow, prelu };

// Elements of the innermost axis are computed in chunks of kChunk; an item is one chunk of one row.
constexpr long kChunk = 4096;

struct Pointwise {
    Loop loop;
    int operation;  // of Unary or Binary
    float alpha, beta;
};

// Copies along a loop nest of at least two axes; an item is a block of `block` rows of the last but one axis.
struct Copy {
    Loop loop;
    long block;
};

// Windows over an NHWC image; an item is one row of the result. What padding adds is never the largest, and is counted
// in an average if `count_padding`; positions beyond the padding never are.
struct Pooling {
    int n, c, h, w, r, s, stride_h, stride_w, dilation_h, dilation_w, pad_top, pad_left, pad_bottom, pad_right;
    int out_h, out_w, x_pitch, y_pitch;
    bool largest, count_padding;
};

enum class Fold : int { sum, max, min };

// One result for each outer index and each of `inner` contiguous elements, from `middle` elements; an item is kStrip
// inner elements of one outer index.
constexpr long kStrip = 64;

struct Reduction {
    long outer, middle, inner, x_outer, x_middle, y_outer;
    int operation;  // of Fold
    float factor;   // of the result
};

// Softmax over `size` elements x_step apart, of `inner` contiguous ones; an item is kStrip inner elements of one outer
// index.
struct Softmax {
    long outer, size, inner, x_outer, x_step, y_outer, y_step;
    bool logarithm;
};

// Normalises rows of `size` contiguous elements, scale and shift an element (shift may be null); an item is a row.
struct RowNorm {
    long rows, size, x_pitch, y_pitch;
    float epsilon;
};

// Local response normalisation over neighbouring channels; an item is a pixel.
struct ResponseNorm {
    long pixels, c, size, x_pitch, y_pitch;
    float alpha, beta, bias;
};

// Gathers a transposed convolution: columns hold, for each input pixel, group, tap and output channel of the group, one
// product; an item is one row of the result. The bias may be null.
struct Scatter {
    int n, h, w, k, groups, r, s, stride_h, stride_w, dilation_h, dilation_w, pad_top, pad_left, out_h, out_w, y_pitch;
};

using PointwiseRange = void (*)(const Pointwise&, const float* a, const float* b, float* y, long first, long last);
using CopyRange = void (*)(const Copy&, const float* a, float* y, long first, long last);
using PoolingRange = void (*)(const Pooling&, const float* x, float* y, long first, long last);
using ReductionRange = void (*)(const Reduction&, const float* x, float* y, long first, long last);
using SoftmaxRange = void (*)(const Softmax&, const float* x, float* y, long first, long last);
using RowNormRange = void (*)(const RowNorm&, const float* x, const float* scale, const float* shift, float* y,
                              long first, long last);
using ResponseNormRange = void (*)(const ResponseNorm&, const float* x, float* y, long first, long last);
using ScatterRange = void (*)(const Scatter&, const float* columns, const float* bias, float* y, long first, long last);

struct OperatorTable {
    PointwiseRange unary, binary;
    CopyRange copy;
    PoolingRange pool;
    ReductionRange reduce;
    SoftmaxRange softmax;
    RowNormRange row_norm;
    ResponseNormRange response_norm;
    ScatterRange scatter;
};

}  // namespace convsmith
