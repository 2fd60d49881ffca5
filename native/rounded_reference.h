#pragma once

#include "rounded.h"

namespace convsmith {

// The plain version that the kernels are tested against: one output after the other, in double.
void rounded_reference(const RoundedPlan& plan, const RoundedTile& tile);

}  // namespace convsmith
