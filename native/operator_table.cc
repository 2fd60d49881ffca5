// The table of the operators of one instruction set. Compiled once per instruction set.
#include "operator_levels.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {

const OperatorTable kOperators = {compute_unary,  compute_binary, copy_items,          pool_rows,   reduce_strips,
                                  softmax_strips, normalise_rows, normalise_responses, scatter_rows};

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
