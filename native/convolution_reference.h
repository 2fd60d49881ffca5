// The plain convolution that the kernels are tested against.
#pragma once

#include "convolution.h"

namespace convsmith {

// One algorithm, "loops": one sum in double precision after the other.
extern const ConvolutionTable kReferenceConvolutions;

}  // namespace convsmith
