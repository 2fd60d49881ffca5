// The table of the integer kernels of one instruction set. Compiled once per instruction set.
#include "integer_levels.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

const IntegerAlgorithm* const entries[] = {&kIntegerGemm, &kIntegerDirect, &kIntegerDepthwise, &kIntegerWinograd[0],
                                           &kIntegerWinograd[1]};

}  // namespace

const IntegerTable kIntegers = {
    entries, int(sizeof entries / sizeof entries[0]), quantise, dequantise, look_up, add_codes, pool_codes, copy_codes};

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
