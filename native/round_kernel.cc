// Rounding of arrays at the speed of memory; round_reference.cc says the same plainly. Compiled once per instruction
// set.
#include "factors.h"
#include "philox_lanes.h"
#include "round_lanes.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

constexpr int kVectors64 = int(kBlock) / kLanes64;

enum class Kind { floating, fixed, binary };

template <Kind K, Mode M>
void round_range(const float* x, float* y, size_t begin, size_t end, const Rounding& rounding, const Scale& scale,
                 const Key& key) {
    const Spread<float> k(rounding);
    const Words words(key);
    Factors factors(scale);
    const bool scaled = scale.factors != nullptr;
    float edge[kBlock] = {};
    for (size_t i = begin; i < end; i += kBlock) {
        const size_t count = end - i < kBlock ? end - i : kBlock;
        const float* source = x + i;
        float* target = y + i;
        if (__builtin_expect(count < kBlock, 0)) {
            memcpy(edge, source, count * sizeof(float));
            source = target = edge;
        }
        F v[kVectors], factor[kVectors], zero[kVectors];
        U word[kVectors] = {};
        if constexpr (M == Mode::stochastic) words.draw(i / kBlock, word);
        for (int j = 0; j < kVectors; ++j) v[j] = load(source + j * kLanes);
        if (scaled) {
            factors.fill(i, count, factor, zero);
            for (int j = 0; j < kVectors; ++j) v[j] = v[j] / factor[j];
        }
        if constexpr (K == Kind::floating) round_float_block<float, M>(v, word, k);
        if constexpr (K == Kind::binary)
            for (int j = 0; j < kVectors; ++j) v[j] = round_binary<float, M>(v[j], word[j], k);
        if constexpr (K == Kind::fixed) {
            if (scaled && scale.zeros) {
                round_fixed_block<float, M>(
                    v, word, [&](int j) { return k.low - k.step * zero[j]; },
                    [&](int j) { return k.high - k.step * zero[j]; }, k);
            } else {
                round_fixed_block<float, M>(v, word, [&](int) { return k.low; }, [&](int) { return k.high; }, k);
            }
        }
        if (scaled)
            for (int j = 0; j < kVectors; ++j) v[j] = v[j] * factor[j];
        for (int j = 0; j < kVectors; ++j) store(target + j * kLanes, v[j]);
        if (__builtin_expect(count < kBlock, 0)) memcpy(y + i, edge, count * sizeof(float));
    }
}

// Elements of either type as a block of doubles; the quotient by a factor is rounded to float where both types are.
struct WideBlock {
    double number[kBlock] = {};

    inline void read(const Numbers& x, size_t begin, size_t count) {
        if (x.wide)
            memcpy(number, static_cast<const double*>(x.data) + begin, count * sizeof(double));
        else if (count == kBlock)
            for (int j = 0; j < kVectors64; ++j)
                store(number + j * kLanes64, widened(static_cast<const float*>(x.data) + begin + j * kLanes64));
        else
            for (size_t i = 0; i < count; ++i) number[i] = static_cast<const float*>(x.data)[begin + i];
    }

    inline void divide(const float* factors, bool narrow) {
        for (int j = 0; j < kVectors64; ++j) {
            F64 quotient = load(number + j * kLanes64) / widened(factors + j * kLanes64);
            if (narrow) quotient = __builtin_convertvector(__builtin_convertvector(quotient, HalfF), F64);
            store(number + j * kLanes64, quotient);
        }
    }

    inline void multiply(const float* factors) {
        for (int j = 0; j < kVectors64; ++j)
            store(number + j * kLanes64, load(number + j * kLanes64) * widened(factors + j * kLanes64));
    }

    inline void write(const Numbers& y, size_t begin, size_t count) const {
        if (y.wide)
            memcpy(static_cast<double*>(y.data) + begin, number, count * sizeof(double));
        else if (count == kBlock)
            for (int j = 0; j < kVectors64; ++j)
                store_narrowed(static_cast<float*>(y.data) + begin + j * kLanes64, load(number + j * kLanes64));
        else
            for (size_t i = 0; i < count; ++i) static_cast<float*>(y.data)[begin + i] = float(number[i]);
    }
};

struct WideWords {
    const Words words;
    const bool two;  // more than 32 bits are drawn

    inline void draw(size_t block, U64 (&word)[kVectors64]) const {
        U upper[kVectors], lower[kVectors] = {};
        words.draw(block, upper);
        if (two) words.draw(block, lower, true);
        const uint32_t *high = reinterpret_cast<const uint32_t*>(upper),
                       *low = reinterpret_cast<const uint32_t*>(lower);
        for (int j = 0; j < kVectors64; ++j) word[j] = widened(high + j * kLanes64) << 32 | widened(low + j * kLanes64);
    }
};

template <Kind K, Mode M>
void round_wide_range(Numbers x, Numbers y, size_t begin, size_t end, const WideRounding& rounding, const Scale& scale,
                      const Key& key) {
    const Spread<double> k(rounding);
    const WideWords words{Words(key), rounding.random_bits > 32};
    Factors factors(scale);
    const bool scaled = scale.factors != nullptr;
    WideBlock block;
    float factor[kBlock], zeros[kBlock] = {};
    for (size_t i = begin; i < end; i += kBlock) {
        const size_t count = end - i < kBlock ? end - i : kBlock;
        U64 word[kVectors64] = {};
        F64 v[kVectors64];
        if constexpr (M == Mode::stochastic) words.draw(i / kBlock, word);
        block.read(x, i, count);
        if (scaled) {
            F of_element[kVectors], zero_of_element[kVectors];
            factors.fill(i, count, of_element, zero_of_element);
            memcpy(factor, of_element, sizeof factor);
            memcpy(zeros, zero_of_element, sizeof zeros);
            block.divide(factor, !x.wide && !y.wide);
        }
        for (int j = 0; j < kVectors64; ++j) v[j] = load(block.number + j * kLanes64);
        if constexpr (K == Kind::floating) round_float_block<double, M>(v, word, k);
        for (int j = 0; j < kVectors64; ++j) {
            if constexpr (K == Kind::binary) v[j] = round_binary<double, M>(v[j], word[j], k);
            if constexpr (K == Kind::fixed) {
                const F64 zero = k.step * widened(zeros + j * kLanes64);
                v[j] = round_fixed<double, M>(v[j], k.low - zero, k.high - zero, word[j], k);
            }
            store(block.number + j * kLanes64, v[j]);
        }
        if (scaled) block.multiply(factor);
        block.write(y, i, count);
    }
}

template <Kind K>
constexpr RoundRange kByMode[kModes] = {
    round_range<K, Mode::toward_zero>, round_range<K, Mode::nearest_even>, round_range<K, Mode::nearest_away>,
    round_range<K, Mode::up>,          round_range<K, Mode::down>,         round_range<K, Mode::to_odd>,
    round_range<K, Mode::stochastic>,
};

template <Kind K>
constexpr RoundWideRange kWideByMode[kModes] = {
    round_wide_range<K, Mode::toward_zero>,  round_wide_range<K, Mode::nearest_even>,
    round_wide_range<K, Mode::nearest_away>, round_wide_range<K, Mode::up>,
    round_wide_range<K, Mode::down>,         round_wide_range<K, Mode::to_odd>,
    round_wide_range<K, Mode::stochastic>,
};

}  // namespace

void round(const float* x, float* y, size_t begin, size_t end, const Rounding& rounding, const Scale& scale,
           const Key& key) {
    const auto& table = rounding.is_binary  ? kByMode<Kind::binary>
                        : rounding.is_float ? kByMode<Kind::floating>
                                            : kByMode<Kind::fixed>;
    table[int(rounding.mode)](x, y, begin, end, rounding, scale, key);
}

void round_wide(Numbers x, Numbers y, size_t begin, size_t end, const WideRounding& rounding, const Scale& scale,
                const Key& key) {
    const auto& table = rounding.is_binary  ? kWideByMode<Kind::binary>
                        : rounding.is_float ? kWideByMode<Kind::floating>
                                            : kWideByMode<Kind::fixed>;
    table[int(rounding.mode)](x, y, begin, end, rounding, scale, key);
}

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
