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
constexpr int kLow = -60, kHigh = 80, kLeastStep = -60;
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

CONVSMITH_INLINE U larger_code(U a, U b) { return (U)larger((I)a, (I)b); }

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
        return largest_of_lanes<2 * Distance>(larger_code(v, other));
    }
}

// The factor of a block as the code of a float, from the code of its largest magnitude; `rare` where the plain version
// must do it. Zeros have the factor 1, since any will do.
struct Sharing {
    U shift, most_fraction, low, reach;
    bool fit;

    Sharing(const Blocks& b) {
        // The exponent field of NaN and infinities is beyond all others.
        const int highest = 254 - b.largest, high = (b.high < kHigh ? b.high : kHigh) + 127;
        const int lowest = (b.low > kLow ? b.low : kLow) + 127;
        shift = all(uint32_t(b.largest));
        most_fraction = all(code(float(b.most)) & 0x7fffffu);
        low = all(uint32_t(lowest));
        reach = all(uint32_t((high < highest ? high : highest) - lowest));
        fit = b.fit;
    }

    CONVSMITH_INLINE U fields(U largest) const {
        U field = (largest >> 23) - shift;
        if (fit) field -= (U)((largest & all(0x7fffffu)) > most_fraction);
        return largest == 0 ? all(127u) : field;
    }
    CONVSMITH_INLINE I rare(U field) const { return field - low > reach; }
};

template <bool Float, Mode M>
class Tile {
  public:
    explicit Tile(const Rounding& rounding) : k_(rounding), sums_(rounding, kLow, kHigh) {
        suit_ = sums_.suit && kBySums<M> && (Float || rounding.highest * sums_.per_step[0] <= 0x1p22f);
    }

    // Rounds 64 elements in units of the scales whose exponent fields are given.
    CONVSMITH_INLINE void round(F (&v)[kVectors], const U (&field)[kVectors], const U (&word)[kVectors]) const {
        if constexpr (kBySums<M>)
            if (suit_) {
#pragma GCC unroll 16
                for (int j = 0; j < kVectors; ++j) v[j] = round_by_sums(v[j], field[j], word[j]);
                return;
            }
        round_scaled(v, field, word);
    }

    inline void remember(const F (&v)[kVectors]) {
        if constexpr (M == Mode::up || M == Mode::down || M == Mode::to_odd)
            for (int j = 0; j < kVectors; ++j) original_[j] = bits(v[j]) & all(~kSignBit);
    }

  private:
    // Limits and steps take the scale; the elements stay as they are.
    CONVSMITH_INLINE F round_by_sums(F x, U field, U word) const {
        if constexpr (Float) {
            const U more = (field - all(127u)) << 23;
            return round_float_by_sums<M>(x, word, sums_.normal + more, sums_.highest + more, sums_);
        } else {
            const F scale = value(field << 23), low = sums_.low * scale, high = sums_.high * scale;
            return round_limited(x, low, high, scale, value((all(254u) - field) << 23), word);
        }
    }

    CONVSMITH_INLINE F round_limited(F x, F low, F high, F scale, [[maybe_unused]] F inverse,
                                     [[maybe_unused]] U word) const {
#if defined(__AVX512F__)
        if constexpr (M == Mode::stochastic)
            return round_fixed_by_sums(x, word, low, high, sums_.step * scale, sums_.per_step * inverse, sums_);
#endif
        const F middle = sums_.middle * scale;
        return (larger(low, smaller(high, x)) + middle) - middle;
    }

    CONVSMITH_INLINE void round_scaled(F (&v)[kVectors], const U (&field)[kVectors], const U (&word)[kVectors]) const {
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

    const Spread<float> k_;
    const Sums sums_;
    bool suit_;
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

// `blocks` blocks of Vectors vectors one after the other, whole tiles of them: block u and the next ones, from element
// `first` on.
template <int Vectors, bool Float, Mode M>
void round_tiles(const Task& task, size_t u, size_t first, size_t blocks) {
    constexpr size_t size = size_t(Vectors * kLanes), per_tile = kBlock / size;
    const Sharing sharing(task.blocks);
    Window window(task.key);
    Tile<Float, M> tile(task.narrow);
    for (const size_t end = u + blocks; u < end; u += per_tile, first += kBlock) {
        const size_t i = first;
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
            rare |= sharing.rare(shared);
#pragma GCC unroll 16
            for (int other = 0; other < Vectors; ++other) field[j + other] = shared;
        }
        if (__builtin_expect(any(rare), 0)) {
            task.plainly(u, u + per_tile);
            continue;
        }
        U word[kVectors] = {};
        if constexpr (M == Mode::stochastic) window.draw(i, word);
        tile.remember(v);
        tile.round(v, field, word);
        for (int j = 0; j < kVectors; ++j) store(task.y + i + j * kLanes, v[j]);
    }
}

// The first `count` elements of 64, then zeros.
CONVSMITH_INLINE void read(const float* x, size_t count, F (&v)[kVectors]) {
    if (count >= kBlock) return (void)memcpy(v, x, sizeof v);
    memset(v, 0, sizeof v);
    memcpy(v, x, count * sizeof(float));
}

CONVSMITH_INLINE void enlarge(U (&largest)[kVectors], const F (&v)[kVectors]) {
#pragma GCC unroll 16
    for (int j = 0; j < kVectors; ++j) largest[j] = larger_code(largest[j], bits(v[j]) & all(~kSignBit));
}

// Rounds up to 64 elements that lie together.
template <bool Float, Mode M>
CONVSMITH_INLINE void round_part(const Task& task, Tile<Float, M>& tile, Window& window, size_t index, size_t count,
                                 const U (&field)[kVectors]) {
    F v[kVectors];
    U word[kVectors] = {};
    read(task.x + index, count, v);
    if constexpr (M == Mode::stochastic) window.draw(index, word);
    tile.remember(v);
    tile.round(v, field, word);
    memcpy(task.y + index, v, (count < kBlock ? count : kBlock) * sizeof(float));
}

// Blocks of any size along the last axis, 64 elements at a time.
template <bool Float, Mode M>
void round_lines(const Task& task, size_t begin, size_t end) {
    const Blocks& b = task.blocks;
    const size_t count = (b.length + b.size - 1) / b.size;
    const Sharing sharing(b);
    Window window(task.key);
    Tile<Float, M> tile(task.narrow);
    for (size_t u = begin; u < end; ++u) {
        const size_t begins = u % count * b.size, first = u / count * b.length + begins;
        const size_t members = b.length - begins < b.size ? b.length - begins : b.size;
        U largest[kVectors] = {}, field[kVectors];
        F v[kVectors];
        for (size_t i = 0; i < members; i += kBlock) {
            read(task.x + first + i, members - i, v);
            enlarge(largest, v);
        }
        U most = largest[0];
        for (int j = 1; j < kVectors; ++j) most = larger_code(most, largest[j]);
        const U shared = sharing.fields(largest_of_lanes<1>(most));
        if (__builtin_expect(any(sharing.rare(shared)), 0)) {
            task.plainly(u, u + 1);
            continue;
        }
        for (int j = 0; j < kVectors; ++j) field[j] = shared;
        for (size_t i = 0; i < members; i += kBlock) round_part(task, tile, window, first + i, members - i, field);
    }
}

// Blocks along another axis: many columns at a time, row by row, so that memory is read in long pieces and, the second
// time, from the cache.
template <bool Float, Mode M>
void round_columns(const Task& task, size_t begin, size_t end) {
    constexpr size_t kTiles = 16;
    const Blocks& b = task.blocks;
    const size_t count = (b.length + b.size - 1) / b.size;
    const Sharing sharing(b);
    Window window(task.key);
    Tile<Float, M> tile(task.narrow);
    U largest[kTiles][kVectors], field[kTiles][kVectors];
    bool plain[kTiles];
    for (size_t u = begin, columns; u < end; u += columns) {
        const size_t column = u % b.inner, block = u / b.inner % count, outer = u / b.inner / count;
        const size_t first = (outer * b.length + block * b.size) * b.inner + column;
        const size_t rows = b.length - block * b.size < b.size ? b.length - block * b.size : b.size;
        columns = b.inner - column < end - u ? b.inner - column : end - u;
        if (columns > kTiles * kBlock) columns = kTiles * kBlock;
        memset(largest, 0, sizeof largest);
        for (size_t row = 0; row < rows; ++row)
            for (size_t i = 0; i < columns; i += kBlock) {
                F v[kVectors];
                read(task.x + first + row * b.inner + i, columns - i, v);
                enlarge(largest[i / kBlock], v);
            }
        for (size_t i = 0; i < columns; i += kBlock) {
            I rare = {};
            for (int j = 0; j < kVectors; ++j) {
                field[i / kBlock][j] = sharing.fields(largest[i / kBlock][j]);
                rare |= sharing.rare(field[i / kBlock][j]);
            }
            plain[i / kBlock] = any(rare);
            if (plain[i / kBlock]) task.plainly(u + i, u + (columns - i < kBlock ? columns : i + kBlock));
        }
        for (size_t row = 0; row < rows; ++row)
            for (size_t i = 0; i < columns; i += kBlock)
                if (!plain[i / kBlock])
                    round_part(task, tile, window, first + row * b.inner + i, columns - i, field[i / kBlock]);
    }
}

// Blocks that lie together: tiles of them, and what is left of an axis that does not end with a whole tile.
template <int Vectors, bool Float, Mode M>
void round_together(const Task& task, size_t begin, size_t end) {
    constexpr size_t size = size_t(Vectors * kLanes), per_tile = kBlock / size;
    const size_t length = task.blocks.length, whole = length / size, count = (length + size - 1) / size;
    for (size_t u = begin; u < end;) {
        const size_t row_end = whole == count ? end : u - u % count + count, last = row_end < end ? row_end : end;
        const size_t stop = whole == count ? end : row_end - (count - whole);
        const size_t there = u < stop ? (stop < last ? stop : last) - u : 0, tiles = there / per_tile * per_tile;
        if (tiles) round_tiles<Vectors, Float, M>(task, u, u / count * length + u % count * size, tiles);
        if (u + tiles < last) round_lines<Float, M>(task, u + tiles, last);
        u = last;
    }
}

template <bool Float, Mode M>
void round_task(const Task& task, size_t begin, size_t end) {
    const Blocks& b = task.blocks;
    if (b.inner == 1 && b.size == 16) return round_together<16 / kLanes, Float, M>(task, begin, end);
    if (b.inner == 1 && b.size == 32) return round_together<32 / kLanes, Float, M>(task, begin, end);
    if (b.inner == 1 && b.size == 64) return round_together<64 / kLanes, Float, M>(task, begin, end);
    if (b.inner == 1) return round_lines<Float, M>(task, begin, end);
    round_columns<Float, M>(task, begin, end);
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
    if (x.wide || narrow.step_exponent < kLeastStep || narrow.step_exponent > -kLow || narrow.wrap_bits ||
        blocks.low > kHigh || blocks.high < kLow)
        return round_blocks_reference(x, y, begin, end, blocks, narrow, wide, key);
    const Task task{static_cast<const float*>(x.data), y, blocks, narrow, wide, key};
    (narrow.is_float ? kByMode<true> : kByMode<false>)[int(narrow.mode)](task, begin, end);
}

#undef CONVSMITH_INLINE

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
