#pragma once

#include "blocks.h"

namespace convsmith {

// The plain version: one block, one element after the other.
void round_blocks_reference(Numbers x, float* y, size_t begin, size_t end, const Blocks& blocks, const Rounding& narrow,
                            const WideRounding& wide, const Key& key);

}  // namespace convsmith
