// The random words of 64 elements at a time, in vectors; philox.h and round.h say which word belongs to which element.
#pragma once

#include "lanes.h"
#include "philox.h"
#include "round.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

constexpr int kVectors = int(kBlock) / kLanes;
constexpr int kGroups = 16 / kLanes;

class Words {
  public:
    explicit Words(const Key& key) {
        for (int round = 0; round < kPhiloxRounds; ++round) {
            key0_[round] = all(uint32_t(key.seed) + uint32_t(round) * kPhiloxWeyl0);
            key1_[round] = all(uint32_t(key.seed >> 32) + uint32_t(round) * kPhiloxWeyl1);
        }
        first_product_ = uint64_t(uint32_t(key.stream)) * kPhiloxMultiplier1;
        first_key_ = uint32_t(key.seed);
        first_right_ = all(uint32_t(key.stream >> 32)) ^ key1_[0];
        second_left_ = all(uint32_t(first_product_)) ^ key0_[1];
        for (int l = 0; l < kLanes; ++l) lane_[0][l] = uint32_t(l), lane_[1][l] = uint32_t(l + 1);
    }

    // The words of a block in the order of its elements; `below`: their lower halves where more than 32 bits are drawn.
    inline void draw(size_t block, U (&word)[kVectors], bool below = false) const {
        const uint64_t counter = uint64_t(block) * 16 | uint64_t(below) << 63;
        // In the first round one factor, and in the second the other, is the same for all counters of a block.
        const uint32_t second_factor = uint32_t(first_product_ >> 32) ^ uint32_t(counter >> 32) ^ first_key_;
        const uint64_t second_product = uint64_t(second_factor) * kPhiloxMultiplier0;
        const U second_high = all(uint32_t(second_product >> 32)) ^ key1_[1],
                second_low = all(uint32_t(second_product));
#pragma GCC unroll 4
        for (int group = 0; group < kGroups; ++group) {
            U c0[2], c1[2], c2[2], c3[2];  // of even and of odd lanes; upper halves mean nothing
#pragma GCC unroll 2
            for (int odd = 0; odd < 2; ++odd) {
                // 16 counters never straddle 2^32, since the first is a multiple of 16.
                const U first = all(uint32_t(counter) + uint32_t(group * kLanes)) + lane_[odd];
                const U product0 = multiply_even(first, all(kPhiloxMultiplier0));
                const U product1 = multiply_even(upper_halves(product0) ^ first_right_, all(kPhiloxMultiplier1));
                c0[odd] = upper_halves(product1) ^ second_left_;
                c1[odd] = product1;
                c2[odd] = second_high ^ product0;
                c3[odd] = second_low;
            }
#pragma GCC unroll 7
            for (int round = 2; round < kPhiloxRounds; ++round)
#pragma GCC unroll 2
                for (int odd = 0; odd < 2; ++odd) {
                    const U product0 = multiply_even(c0[odd], all(kPhiloxMultiplier0));
                    const U product1 = multiply_even(c2[odd], all(kPhiloxMultiplier1));
                    c0[odd] = upper_halves(product1) ^ c1[odd] ^ key0_[round];
                    c2[odd] = upper_halves(product0) ^ c3[odd] ^ key1_[round];
                    c1[odd] = product1;
                    c3[odd] = product0;
                }
            word[group] = interleaved(c0[0], c0[1]);
            word[kGroups + group] = interleaved(c1[0], c1[1]);
            word[2 * kGroups + group] = interleaved(c2[0], c2[1]);
            word[3 * kGroups + group] = interleaved(c3[0], c3[1]);
        }
    }

  private:
    U key0_[kPhiloxRounds], key1_[kPhiloxRounds];
    uint64_t first_product_;
    uint32_t first_key_;
    U first_right_, second_left_, lane_[2];
};

}  // namespace
}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
