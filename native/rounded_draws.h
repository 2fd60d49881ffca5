// The random bits of the outputs of a tile; src/convsmith/kernels/rounded_random.py says which they are.
#pragma once

#include "lanes.h"
#include "philox.h"
#include "rounded.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

// Holds the four words of the current counters of some outputs, for products and for sums.
class Draws {
  public:
    Draws(const RoundedPlan& plan, const RoundedTile& tile)
        : tile_(tile), pieces_(uint64_t(128 / plan.draw_width)), width_(uint32_t(plan.draw_width)) {
        unused_ = width_ - uint32_t(plan.sum.random_bits);
        mask_ = all(0xffffffffu >> (32 - plan.sum.random_bits));
        for (int round = 0; round < kPhiloxRounds; ++round) {
            key0_[round] = all(plan.key[0] + uint32_t(round) * kPhiloxWeyl0);
            key1_[round] = all(plan.key[1] + uint32_t(round) * kPhiloxWeyl1);
        }
    }

    // Says for which outputs of the tile bits will be drawn.
    inline void window(int row, int rows, int column, int columns) {
        row_ = row, rows_ = rows, column_ = column, columns_ = columns;
        counter_[0] = counter_[1] = ~uint64_t(0);
    }

    // Makes draw `number` of these outputs current.
    inline void select(int kind, uint64_t number) {
        const uint64_t counter = number / pieces_;
        if (__builtin_expect(counter != counter_[kind], 0)) refill(kind, counter);
        const uint32_t bit = uint32_t(number % pieces_) * width_;
        word_[kind] = words_[kind][bit / 32];
        shift_[kind] = bit % 32 + unused_;
    }

    // The current draws of kLanes outputs from `column` on: integers of random_bits bits.
    inline U get(int kind, int row, int column) const {
        U word;
        memcpy(&word, word_[kind] + row * kTileColumns + column, sizeof word);
        return (word >> shift_[kind]) & mask_;
    }

  private:
    // A vector may reach beyond the last column.
    typedef uint32_t Words[kTileRows * kTileColumns + kLanes];

    __attribute__((noinline)) void refill(int kind, uint64_t counter) {
        counter_[kind] = counter;
        for (int row = row_; row < row_ + rows_; ++row)
            for (int column = column_; column < column_ + columns_; column += kLanes) {
                const int at = row * kTileColumns + column;
                U c0, c1, c2 = all(uint32_t(counter)), c3 = all(uint32_t(kind));
                memcpy(&c0, tile_.elements_low + at, sizeof c0);
                memcpy(&c1, tile_.elements_high + at, sizeof c1);
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
                memcpy(words_[kind][0] + at, &c0, sizeof c0);
                memcpy(words_[kind][1] + at, &c1, sizeof c1);
                memcpy(words_[kind][2] + at, &c2, sizeof c2);
                memcpy(words_[kind][3] + at, &c3, sizeof c3);
            }
    }

    const RoundedTile& tile_;
    uint64_t pieces_, counter_[kDrawKinds];
    uint32_t width_, unused_;
    int row_, rows_, column_, columns_;
    U mask_, key0_[kPhiloxRounds], key1_[kPhiloxRounds];
    uint32_t shift_[kDrawKinds];
    const uint32_t* word_[kDrawKinds];
    alignas(64) Words words_[kDrawKinds][4];
};

}  // namespace
}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
