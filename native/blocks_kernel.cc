// Rounding to block formats in one pass: the largest magnitude, the shared scale, the rounding.
//
// A tile is 64 elements, each with the exponent of its scale. Multiplying by a power of two is exact as long as nothing
// leaves the normal numbers, so elements are rounded in units of their scale. Blocks for which that might not hold, or
// that hold NaN or infinities, go to the plain version, which computes in double.
#include "blocks.h"
#include "philox_lanes.h"
#include "round_lanes.h"

namespace convsmith {

void round_blocks_reference(Numbers x, float* y, size_t begin, size_t end, const Blocks& blocks, const Rounding& narrow,
                            const WideRounding& wide, const Key& key);

namespace CONVSMITH_LEVEL {
namespace {

constexpr uint32_t kInfinity = 0x7f800000u, kSignBit = 0x80000000u;
// Exponents of scales that the vectors handle: products with elements of steps from 2^-60 stay normal.
constexpr int kLow = -60, kHigh = 100, kLeastStep = -60;
constexpr float kTiny = 0x1p-100f;

#define CONVSMITH_INLINE __attribute__((always_inline)) inline

CONVSMITH_INLINE U exchanged(U v, I lane) {
#if defined(__clang__)
    U result;
    for (int l = 0; l < kLanes; ++l) result[l] = v[lane[l]];
    return result;
#else
    return __builtin_shuffle(v, lane);
#endif
}

// The largest element of all lanes in each.
template <int Distance>
CONVSMITH_INLINE U largest_of_lanes(U v) {
    if constexpr (Distance >= kLanes) {
        return v;
    } else {
        I lane = {};
#pragma GCC unroll 16
        for (int l = 0; l < kLanes; ++l) lane[l] = l ^ Distance;
        const U other = exchanged(v, lane);
        return largest_of_lanes<2 * Distance>((I)v > (I)other ? v : other);
    }
}

inline uint32_t larger_code(uint32_t a, uint32_t b) { return a > b ? a : b; }

// The factor of a block as the code of a float, from the code of its largest magnitude; `rare` where the plain version
// must do it. Zeros have the factor 1, since any will do.
struct Sharing {
    uint32_t shift, most_fraction, fit;  // of the exponent field
    int low, high;

    Sharing(const Blocks& b) {
        const float most = float(b.most);
        shift = uint32_t(b.largest);
        most_fraction = code(most) & 0x7fffffu;
        fit = b.fit ? 1u : 0u;
        low = (b.low > kLow ? b.low : kLow) + 127;
        high = (b.high < kHigh ? b.high : kHigh) + 127;
    }

    CONVSMITH_INLINE U fields(U largest) const {
        const U field = (largest >> 23) - all(shift);
        const U beyond = (U)((largest & all(0x7fffffu)) > all(most_fraction)) & all(fit);
        return largest == 0 ? all(127u) : field + beyond;
    }
    CONVSMITH_INLINE I rare(U field, U largest) const {
        return ((I)field < low) | ((I)field > high) | (largest >= all(kInfinity));
    }
};

template <bool Float, Mode M>
class Tile {
  public:
    explicit Tile(const Rounding& rounding) : k_(rounding) {}

    // Rounds 64 elements in units of the scales whose exponent fields are given.
    CONVSMITH_INLINE void round(F (&v)[kVectors], const U (&field)[kVectors], const U (&word)[kVectors]) const {
#pragma GCC unroll 16
        for (int j = 0; j < kVectors; ++j) {
            const F scaled = v[j] * value((all(254u) - field[j]) << 23);
            v[j] = scaled;
            if constexpr (M == Mode::up || M == Mode::down || M == Mode::to_odd) {
                const U sign = bits(scaled) & kSignBit;
                // Products are rounded below the normal numbers: keep them off zero there.
                const I tiny = (I)(bits(scaled) ^ sign) < (I)bits(all(kTiny));
                v[j] = tiny & (original_[j] != 0) ? value(bits(all(kTiny)) | sign) : scaled;
            }
        }
        if constexpr (Float)
            round_float_block<float, M>(v, word, k_);
        else
            for (int j = 0; j < kVectors; ++j) v[j] = round_fixed<float, M>(v[j], k_.low, k_.high, word[j], k_);
#pragma GCC unroll 16
        for (int j = 0; j < kVectors; ++j) v[j] = v[j] * value(field[j] << 23);
    }

    inline void remember(const F (&v)[kVectors]) {
        if constexpr (M == Mode::up || M == Mode::down || M == Mode::to_odd)
            for (int j = 0; j < kVectors; ++j) original_[j] = bits(v[j]) & all(~kSignBit);
    }

  private:
    const Spread<float> k_;
    U original_[kVectors];
};

// The random words of 64 elements from any index on.
struct Window {
    const Words words;
    size_t first = ~size_t(0);
    U drawn[2][kVectors];

    explicit Window(const Key& key) : words(key) {}

    inline void draw(size_t index, U (&word)[kVectors]) {
        const size_t block = index / kBlock;
        if (index % kBlock == 0) return words.draw(block, word);
        if (block != first) {
            words.draw(block, drawn[0]);
            words.draw(block + 1, drawn[1]);
            first = block;
        }
        memcpy(word, reinterpret_cast<const char*>(drawn) + index % kBlock * sizeof(uint32_t), sizeof word);
    }
};

struct Task {
    const float* x;
    float* y;
    const Blocks& blocks;
    const Rounding& narrow;
    const WideRounding& wide;
    const Key& key;

    void plainly(size_t begin, size_t end) const {
        round_blocks_reference(Numbers{const_cast<float*>(x), false}, y, begin, end, blocks, narrow, wide, key);
    }
};

// Blocks of Vectors vectors one after the other, `begin` at a multiple of 64 elements.
template <int Vectors, bool Float, Mode M>
void round_aligned(const Task& task, size_t begin, size_t end) {
    constexpr size_t size = size_t(Vectors * kLanes), per_tile = kBlock / size;
    const Sharing sharing(task.blocks);
    const Words words(task.key);
    Tile<Float, M> tile(task.narrow);
    size_t u = begin;
    for (; u + per_tile <= end; u += per_tile) {
        const size_t i = u * size;
        F v[kVectors];
        U field[kVectors], largest[kVectors];
#pragma GCC unroll 16
        for (int j = 0; j < kVectors; ++j) {
            v[j] = load(task.x + i + j * kLanes);
            largest[j] = bits(v[j]) & all(~kSignBit);
        }
        I rare = {};
#pragma GCC unroll 16
        for (int j = 0; j < kVectors; j += Vectors) {
            U most = largest[j];
#pragma GCC unroll 16
            for (int other = 1; other < Vectors; ++other) most = larger_code(most, largest[j + other]);
            most = largest_of_lanes<1>(most);
            const U shared = sharing.fields(most);
            rare |= sharing.rare(shared, most);
#pragma GCC unroll 16
            for (int other = 0; other < Vectors; ++other) field[j + other] = shared;
        }
        if (__builtin_expect(any(rare), 0)) {
            task.plainly(u, u + per_tile);
            continue;
        }
        U word[kVectors] = {};
        if constexpr (M == Mode::stochastic) words.draw(i / kBlock, word);
        tile.remember(v);
        tile.round(v, field, word);
        for (int j = 0; j < kVectors; ++j) store(task.y + i + j * kLanes, v[j]);
    }
    if (u < end) task.plainly(u, end);
}

// Blocks of any size and layout: each tile is 64 columns of one index along the axis, or, where there is one column, 64
// elements of one block.
template <bool Float, Mode M>
void round_anyhow(const Task& task, size_t begin, size_t end) {
    const Blocks& b = task.blocks;
    const size_t count = (b.length + b.size - 1) / b.size;
    const Sharing sharing(b);
    Window window(task.key);
    Tile<Float, M> tile(task.narrow);
    for (size_t u = begin; u < end;) {
        const size_t column = u % b.inner, block = u / b.inner % count, outer = u / b.inner / count;
        const size_t first = (outer * b.length + block * b.size) * b.inner + column;
        const size_t members = b.length - block * b.size < b.size ? b.length - block * b.size : b.size;
        size_t columns = b.inner - column < end - u ? b.inner - column : end - u;
        if (columns > kBlock) columns = kBlock;
        const bool single = b.inner == 1;
        const size_t rows = single ? (members + kBlock - 1) / kBlock : members;
        const auto width = [&](size_t row) {
            return !single ? columns : members - row * kBlock < kBlock ? members - row * kBlock : kBlock;
        };
        const size_t step = single ? kBlock : b.inner;
        uint32_t edge[kBlock] = {};
        for (size_t row = 0; row < rows; ++row) {
            const size_t n = width(row);
            const float* source = task.x + first + row * step;
            for (size_t i = 0; i < n; ++i) edge[i] = larger_code(edge[i], code(source[i]) & ~kSignBit);
        }
        U largest[kVectors], field[kVectors];
        memcpy(largest, edge, sizeof largest);
        if (single) {
            U most = largest[0];
            for (int j = 1; j < kVectors; ++j) most = larger_code(most, largest[j]);
            most = largest_of_lanes<1>(most);
            for (int j = 0; j < kVectors; ++j) largest[j] = most;
        }
        I rare = {};
        for (int j = 0; j < kVectors; ++j) {
            field[j] = sharing.fields(largest[j]);
            rare |= sharing.rare(field[j], largest[j]);
        }
        if (__builtin_expect(any(rare), 0)) {
            task.plainly(u, u + columns);
            u += columns;
            continue;
        }
        for (size_t row = 0; row < rows; ++row) {
            const size_t n = width(row), index = first + row * step;
            F v[kVectors] = {};
            U word[kVectors] = {};
            if (n == kBlock)
                memcpy(v, task.x + index, sizeof v);
            else
                memcpy(v, task.x + index, n * sizeof(float));
            if constexpr (M == Mode::stochastic) window.draw(index, word);
            tile.remember(v);
            tile.round(v, field, word);
            memcpy(task.y + index, v, n * sizeof(float));
        }
        u += columns;
    }
}

template <bool Float, Mode M>
void round_task(const Task& task, size_t begin, size_t end) {
    const Blocks& b = task.blocks;
    const bool aligned = b.inner == 1 && b.length % b.size == 0 && begin * b.size % kBlock == 0;
    if (aligned && b.size == 16) return round_aligned<16 / kLanes, Float, M>(task, begin, end);
    if (aligned && b.size == 32) return round_aligned<32 / kLanes, Float, M>(task, begin, end);
    if (aligned && b.size == 64) return round_aligned<64 / kLanes, Float, M>(task, begin, end);
    round_anyhow<Float, M>(task, begin, end);
}

template <bool Float>
constexpr void (*kByMode[kModes])(const Task&, size_t, size_t) = {
    round_task<Float, Mode::toward_zero>, round_task<Float, Mode::nearest_even>, round_task<Float, Mode::nearest_away>,
    round_task<Float, Mode::up>,          round_task<Float, Mode::down>,         round_task<Float, Mode::to_odd>,
    round_task<Float, Mode::stochastic>,
};

}  // namespace

void round_blocks(Numbers x, float* y, size_t begin, size_t end, const Blocks& blocks, const Rounding& narrow,
                  const WideRounding& wide, const Key& key) {
    if (x.wide || narrow.step_exponent < kLeastStep || narrow.step_exponent > -kLow || narrow.wrap_bits)
        return round_blocks_reference(x, y, begin, end, blocks, narrow, wide, key);
    const Task task{static_cast<const float*>(x.data), y, blocks, narrow, wide, key};
    (narrow.is_float ? kByMode<true> : kByMode<false>)[int(narrow.mode)](task, begin, end);
}

#undef CONVSMITH_INLINE

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
