// The table of the convolution algorithms of one instruction set. Compiled once per instruction set.
#include "convolution_levels.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

const ConvolutionAlgorithm* const entries[] = {&kGemm, &kDepthwise};

}  // namespace

const ConvolutionTable kConvolutions = {entries, int(sizeof entries / sizeof entries[0])};

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
