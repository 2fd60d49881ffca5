// The gradient of a convolution's weights at one instruction set. Plain data.
#pragma once

#include "convolution.h"

namespace convsmith {

struct ConvolutionGradient {
    size_t (*workspace_bytes)(const Convolution&);
    // dw[k][c][r][s] = sum over pixels of x at the tap times dy, both NHWC with the pitches of the convolution. The
    // result does not depend on `threads`.
    void (*weights)(const Convolution&, const float* x, const float* dy, float* dw_kcrs, void* workspace, int threads);
};

// The plain one, in double precision.
extern const ConvolutionGradient kReferenceGradient;

}  // namespace convsmith
