// The operators of one instruction set.
#pragma once

#include "operators.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {

void compute_unary(const Pointwise&, const float* a, const float* b, float* y, long first, long last);
void compute_binary(const Pointwise&, const float* a, const float* b, float* y, long first, long last);
void copy_items(const Copy&, const float* a, float* y, long first, long last);
void pool_rows(const Pooling&, const float* x, float* y, long first, long last);
void reduce_strips(const Reduction&, const float* x, float* y, long first, long last);
void softmax_strips(const Softmax&, const float* x, float* y, long first, long last);
void normalise_rows(const RowNorm&, const float* x, const float* scale, const float* shift, float* y, long first,
                    long last);
void normalise_responses(const ResponseNorm&, const float* x, float* y, long first, long last);
void scatter_rows(const Scatter&, const float* columns, const float* bias, float* y, long first, long last);

extern const OperatorTable kOperators;

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
