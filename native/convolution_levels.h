// The convolution algorithms of one instruction set.
#pragma once

#include "convolution.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {

extern const ConvolutionAlgorithm kGemm, kStrassen, kDirect, kDepthwise;
constexpr int kWinogradForms = 11;
extern const ConvolutionAlgorithm kWinograd[kWinogradForms];
constexpr int kFourierForms = 2;
extern const ConvolutionAlgorithm kFourier[kFourierForms];
extern const ConvolutionTable kConvolutions;

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
