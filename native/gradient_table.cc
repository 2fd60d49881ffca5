// The table of the gradients of weights of one instruction set. Compiled once per instruction set.
#include "gradient_levels.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

const GradientAlgorithm* const entries[] = {&kPixelSums, &kWinogradGradients[0], &kWinogradGradients[1]};

}  // namespace

const GradientTable kGradients = {entries, int(sizeof entries / sizeof entries[0])};

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
