// Gradients of a convolution's weights at one instruction set: what is asked for, and the ways there are. Plain data.
#pragma once

#include "convolution.h"

namespace convsmith {

// dw[k][c][r][s] = sum over pixels of x at the tap times dy, both NHWC with the pitches of the convolution. `weights`
// neither allocates nor keeps anything, writes every element of dw, and its result does not depend on `threads`.
struct GradientAlgorithm {
    const char* name;
    bool (*supports)(const Convolution&);
    // For a run with exactly as many threads; `workspace` begins at a multiple of kAlignment bytes.
    size_t (*workspace_bytes)(const Convolution&, int threads);
    void (*weights)(const Convolution&, const float* x, const float* dy, float* dw_kcrs, void* workspace, int threads);
};

// The ways of one level; the first supports every convolution.
struct GradientTable {
    const GradientAlgorithm* const* entries;
    int count;
};

// The plain one, in double precision.
extern const GradientTable kReferenceGradients;

}  // namespace convsmith
