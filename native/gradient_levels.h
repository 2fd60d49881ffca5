// The gradients of weights of one instruction set.
#pragma once

#include "gradient.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {

extern const GradientAlgorithm kPixelSums;
constexpr int kWinogradGradientForms = 2;
extern const GradientAlgorithm kWinogradGradients[kWinogradGradientForms];
extern const GradientTable kGradients;

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
