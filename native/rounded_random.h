// Random bits of rounded arithmetic, one output at a time; src/convsmith/kernels/rounded_random.py says which they are.
#pragma once

#include "philox.h"
#include "rounded.h"

namespace convsmith {

// Draw `number` of an output: an integer of random_bits bits.
inline uint32_t draw(const RoundedPlan& plan, uint64_t element, int kind, uint64_t number) {
    const uint64_t pieces = 128 / plan.draw_width;
    uint32_t c[4] = {uint32_t(element), uint32_t(element >> 32), uint32_t(number / pieces), uint32_t(kind)};
    uint32_t k0 = plan.key[0], k1 = plan.key[1];
    for (int round = 0; round < kPhiloxRounds; ++round) {
        const uint64_t first = uint64_t(c[0]) * kPhiloxMultiplier0, second = uint64_t(c[2]) * kPhiloxMultiplier1;
        c[0] = uint32_t(second >> 32) ^ c[1] ^ k0;
        c[1] = uint32_t(second);
        c[2] = uint32_t(first >> 32) ^ c[3] ^ k1;
        c[3] = uint32_t(first);
        k0 += kPhiloxWeyl0;
        k1 += kPhiloxWeyl1;
    }
    const uint64_t bit = number % pieces * plan.draw_width;
    const uint64_t piece = c[bit / 32] >> bit % 32 & ((uint64_t(1) << plan.draw_width) - 1);
    return uint32_t(piece >> (plan.draw_width - plan.sum.random_bits));
}

}  // namespace convsmith
