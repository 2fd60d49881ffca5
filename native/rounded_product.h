// Gathered matrix products whose every multiply and add is rounded; src/convsmith/kernels/rounded_tables.py says what
// they compute.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dispatch.h"
#include "rounded.h"

namespace convsmith {

struct Offsets {
    const int64_t* data;
    size_t size;
};

struct GatheredProduct {
    const float *a, *b;
    float* out;
    size_t a_size, b_size;
    Offsets a_rows, a_terms, b_columns, column_y, column_x, b_terms, term_y, term_x, out_rows, out_columns;
    int64_t height, width, groups, a_group, b_group, out_group;
    bool inside;  // no column is beyond the edges for any term
};

// What is wanted, before it is known how to carry the numbers.
struct RoundedArithmetic {
    Rounding sum, product;
    bool rounds_product, same_format;
    Order order;
    uint64_t block;
    int draw_width;
    uint32_t key[2];
};

// Chooses the fastest carrier that is exact for these factors; the result does not depend on the choice.
RoundedPlan plan_rounded(const RoundedArithmetic& arithmetic, const GatheredProduct& product, const Level& level,
                         int threads);

// Computes all outputs; those without terms are left as they are.
void multiply_rounded(const GatheredProduct& product, const RoundedArithmetic& arithmetic, const Level& level,
                      int threads);

}  // namespace convsmith
