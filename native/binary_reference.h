// The plain reference of the functions on packed signs: one sign at a time.
#pragma once

#include "binary.h"

namespace convsmith {

extern const BinaryTable kReferenceBinary;

}  // namespace convsmith
