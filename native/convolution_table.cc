// The table of the convolution algorithms of one instruction set. Compiled once per instruction set.
#include "convolution_levels.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

const ConvolutionAlgorithm* const entries[] = {
    &kGemm,         &kDepthwise,   &kWinograd[0], &kWinograd[1], &kWinograd[2], &kWinograd[3],
    &kWinograd[4],  &kWinograd[5], &kWinograd[6], &kWinograd[7], &kWinograd[8], &kWinograd[9],
    &kWinograd[10], &kFourier[0],  &kFourier[1],  &kStrassen,    &kDirect};

}  // namespace

const ConvolutionTable kConvolutions = {entries, int(sizeof entries / sizeof entries[0])};

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
