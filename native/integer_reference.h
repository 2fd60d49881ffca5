// The plain convolution and operators of codes that the kernels are tested against.
#pragma once

#include "integer.h"

namespace convsmith {

// One algorithm, "int8_loops": one product after the other.
extern const IntegerAlgorithm kIntegerLoops;

}  // namespace convsmith
