// What a processor can do at most: multiply-adds on registers, and passes over memory. For the roofline of a layer.
#pragma once

#include <stddef.h>

namespace convsmith {

// Does `turns` rounds of independent multiply-adds on registers and returns how many floating-point operations each
// round has, a multiply-add counted as two.
using MultiplyAdds = int (*)(size_t turns);

// y[i] = x[i] + factor * z[i] (the triad of McCalpin's STREAM), for i from begin to end; the arrays do not overlap.
using Triad = void (*)(const float* x, const float* z, float* y, float factor, size_t begin, size_t end);

}  // namespace convsmith
