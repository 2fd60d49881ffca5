// Products and sums that are rounded one by one: what is asked for. Plain data, shared by the reference and the
// kernels.
//
// This header is included by files that are compiled for one instruction set only, so it must not define any function.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "round.h"

namespace convsmith {

enum class Order : int { sequential, pairwise, blocked, kahan };

// How numbers are carried between roundings; plan_rounded() in rounded_plan.cc says which is exact for what.
enum class Carrier : int {
    wide,    // double lanes: everything
    narrow,  // float lanes: floats of at most 24 significand bits, finite factors
    whole,   // 32-bit integer lanes: fixed point of at most 16 bits
};

constexpr int kCarriers = 3;

// Products (0) and sums (1) draw random bits of their own.
constexpr int kDrawKinds = 2;

struct RoundedPlan {
    Carrier carrier;
    Order order;
    Rounding sum;
    Rounding product;
    bool rounds_product;  // else the exact product is added, a fused multiply-add
    uint64_t block;       // terms of an inner sum of Order::blocked
    bool skips;           // terms whose second factors are padding change nothing, and may be left out
    int draw_width;       // 8, 16 or 32 bits of a random word for each rounding; the top random_bits of them count
    uint32_t key[2];      // of all draws
    // narrow only.
    bool masked;     // the format has float32's exponents, so that rounding is arithmetic on codes
    bool exact;      // float32 products are exact and the double rounding of sums is innocuous
    bool saturates;  // else overflow makes infinity, or NaN
    bool half;       // the format and its overflow are those of binary16, to which the processor may convert
    bool precise;    // nearest even with 23 or 24 significand bits: rounded_precise.cc
    // whole only: factors become integers by these scales, and products lose so many bits.
    float a_scale, b_scale, out_scale;
    int cut;
};

// What is known of an array of factors, as codes without sign and as a value.
struct RoundedSurvey {
    uint32_t largest;  // the largest
    uint32_t used;     // all, combined by or
    float lowest_bit;  // the value of the lowest bit that any number has; infinity where all are zero
};
using RoundedLook = void (*)(const float* values, size_t count, RoundedSurvey& found);

// The sizes of a tile of outputs.
constexpr int kTileRows = 4, kTileColumns = 64;
// Sums that wait at once in pairwise order: one for each bit of the number of terms.
constexpr int kMostSlots = 48;

// Consecutive terms whose second factors are there; `first` counts from the first term of the call.
struct RoundedStretch {
    uint32_t first, count;
};

// Some terms of one tile. Factors are floats, or int32 where the carrier is `whole`.
struct RoundedTile {
    const float* a;     // [terms][kTileRows]
    const float* b;     // [terms that are there][kTileColumns]
    int rows, columns;  // of the tile that are wanted
    size_t first;       // the number of the first term
    // Ascending; a single one of all terms where the order is not sequential.
    const RoundedStretch* stretches;
    size_t stretch_count;
    size_t all;  // terms of the whole sum
    bool last;   // these are the last
    // [kTileRows][kTileColumns] and a vector more: low and high words of the outputs' numbers, for stochastic rounding.
    const uint32_t *elements_low, *elements_high;
    double* state;  // [slots][kTileRows][kTileColumns]: kept between calls, zeros before the first
    float* result;  // [kTileRows][kTileColumns], written by the call with the last terms
};

// Adds the terms of one call.
using RoundedRun = void (*)(const RoundedPlan& plan, const RoundedTile& tile);

}  // namespace convsmith
