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
        stream_low_ = all(uint32_t(key.stream));
        stream_high_ = all(uint32_t(key.stream >> 32));
        for (int l = 0; l < kLanes; ++l) lane_[l] = uint32_t(l);
    }

    // The words of a block in the order of its elements; `below`: their lower halves where more than 32 bits are drawn.
    inline void draw(size_t block, U (&word)[kVectors], bool below = false) const {
        const uint64_t counter = uint64_t(block) * 16 | uint64_t(below) << 63;
#pragma GCC unroll 4
        for (int group = 0; group < kGroups; ++group) {
            // 16 counters never straddle 2^32, since the first is a multiple of 16.
            U c0 = all(uint32_t(counter) + uint32_t(group * kLanes)) + lane_, c1 = all(uint32_t(counter >> 32));
            U c2 = stream_low_, c3 = stream_high_;
#pragma GCC unroll 7
            for (int round = 0; round < kPhiloxRounds; ++round) {
                U high0, low0, high1, low1;
                multiply_wide(c0, all(kPhiloxMultiplier0), high0, low0);
                multiply_wide(c2, all(kPhiloxMultiplier1), high1, low1);
                c0 = high1 ^ c1 ^ key0_[round];
                c2 = high0 ^ c3 ^ key1_[round];
                c1 = low1;
                c3 = low0;
            }
            word[group] = c0;
            word[kGroups + group] = c1;
            word[2 * kGroups + group] = c2;
            word[3 * kGroups + group] = c3;
        }
    }

  private:
    U key0_[kPhiloxRounds], key1_[kPhiloxRounds];
    U stream_low_, stream_high_, lane_;
};

}  // namespace
}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
