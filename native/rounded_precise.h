// Rounded products and sums of formats with 23 or 24 significand bits.
#pragma once

#include "rounded.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {

void rounded_precise(const RoundedPlan& plan, const RoundedTile& tile);

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
