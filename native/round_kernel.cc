// Rounding at the speed of memory; round_reference.cc says the same plainly. Compiled once per instruction set.
//
// Floats: the kept bits of a normal number follow from one integer addition and a mask on its code (the sign apart),
// since the codes of neighbouring values are consecutive, carries into the exponent included. Numbers below the
// format's smallest normal one, infinities and NaN are rare: a block of 64 elements takes the longer way only if it
// holds one. Zero is not rare after a ReLU, and is right on the short way.
#include "lanes.h"
#include "philox.h"
#include "round.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

constexpr int kVectors = int(kBlock) / kLanes;
constexpr int kGroups = 16 / kLanes;
constexpr uint32_t kSignBit = 0x80000000u, kInfinity = 0x7f800000u, kNaN = 0x7fc00000u;
inline uint32_t code(float v) {
    uint32_t c;
    memcpy(&c, &v, sizeof c);
    return c;
}

// 2^exponent for exponents of normal numbers.
inline float power(int exponent) {
    const uint32_t c = uint32_t(exponent + 127) << 23;
    float v;
    memcpy(&v, &c, sizeof v);
    return v;
}

// The constants of a call, spread over lanes once.
struct Spread {
    int cut;  // fraction bits to cut off
    U rest, half_less_one, half, parity, flip;
    U keep, keep_of_cut;
    int draw_shift;
    U normal, highest, above, below, plus_infinity, minus_infinity;
    F step, whole, per_step, per_step_24, per_step_rest;
    F low, high;
    bool wraps;
    F period, per_period, low_steps, high_steps;

    explicit Spread(const Rounding& r) {
        cut = 23 - r.significand_bits;
        const uint32_t one = 1u << cut;
        rest = all(one - 1);
        half = all(cut ? one >> 1 : 0u);
        half_less_one = all(cut ? (one >> 1) - 1 : 0u);
        parity = all(cut ? 1u : 0u);
        flip = all(r.flip_parity ? 1u : 0u);
        keep = all(0xffffffffu << (32 - r.random_bits));
        keep_of_cut = cut ? keep : U{};
        draw_shift = cut ? 32 - cut : 31;
        normal = all(code(r.smallest_normal));
        highest = all(code(r.highest));
        above = all(code(r.above) & ~kSignBit);
        below = all(code(r.below) & ~kSignBit);
        plus_infinity = all(code(r.plus_infinity) & ~kSignBit);
        minus_infinity = all(code(r.minus_infinity) & ~kSignBit);
        whole = all(power(23 + r.step_exponent));
        const int first = r.step_exponent < -100 ? -100 : r.step_exponent;  // 2^149 is beyond float32: two factors
        per_step = all(power(-first));
        per_step_24 = all(power(24 - first));
        per_step_rest = all(power(first - r.step_exponent));
        const float one_step = power(first) * power(r.step_exponent - first);
        step = all(one_step);
        low = all(r.lowest);
        high = all(r.highest);
        wraps = r.wrap_bits != 0;
        period = all(power(r.wrap_bits));
        per_period = all(power(-r.wrap_bits));
        low_steps = r.is_float ? F{} : all(r.lowest * power(-first));
        high_steps = low_steps + period;
    }
};

// Rounds normal magnitudes (as codes) to the kept bits.
template <Mode M>
inline U cut_bits(U size, U sign, U word, const Spread& k) {
    U sum = size;
    if constexpr (M == Mode::nearest_even) sum += k.half_less_one + (((size >> k.cut) ^ k.flip) & k.parity);
    if constexpr (M == Mode::nearest_away) sum += k.half;
    if constexpr (M == Mode::up) sum += k.rest & ~(U)((I)sign >> 31);
    if constexpr (M == Mode::down) sum += k.rest & (U)((I)sign >> 31);
    if constexpr (M == Mode::to_odd) {
        const U even = ~((size >> k.cut) ^ k.flip) & k.parity;
        sum += (size & k.rest) != 0 ? even << k.cut : U{};
    }
    if constexpr (M == Mode::stochastic) sum += (word & k.keep_of_cut) >> k.draw_shift;
    return sum & ~k.rest;
}

// Rounds magnitudes below 2^23 steps to whole steps. From 2^23 to 2^24 steps the gap between float32 values is one
// step, so adding 2^23 steps and taking them away again is rounding to nearest even, exactly; the other modes correct
// its result.
template <bool Float, Mode M>
inline F to_steps(F size, U sign, U word, const Spread& k) {
    const F nearest = (size + k.whole) - k.whole;
    if constexpr (M == Mode::nearest_even) return nearest;
    const F floor = nearest > size ? nearest - k.step : nearest;
    if constexpr (M == Mode::toward_zero) return floor;
    const F next = floor + k.step;
    const U negative = (U)((I)sign >> 31);
    const F cut_off = size - floor;
    if constexpr (M == Mode::nearest_away) return cut_off + cut_off >= k.step ? next : floor;
    if constexpr (M == Mode::up) return (size > floor) & ~(I)negative ? next : floor;
    if constexpr (M == Mode::down) return (size > floor) & (I)negative ? next : floor;
    if constexpr (M == Mode::to_odd) return (size > floor) & ((I)(bits(floor + k.whole) & 1) - 1) ? next : floor;
    // rest + drawn * 2^-24 >= 1, exactly: times 2^24, both sides below are float32 values, and what underflows is less
    // than 1.
    F rest = cut_off * k.per_step_24;
    if constexpr (Float) rest *= k.per_step_rest;
    const U drawn = (word & k.keep) >> 8;
    return rest >= __builtin_convertvector((I)(all(1u << 24) - drawn), F) ? next : floor;
}

template <Mode M>
inline U round_any_float(U size, U sign, U word, const Spread& k) {
    const I negative = (I)sign >> 31;
    const U small = bits(to_steps<true, M>(value(size), sign, word, k));
    U result = (I)size < (I)k.normal ? small : cut_bits<M>(size, sign, word, k);
    result = (I)result > (I)k.highest ? (negative ? k.below : k.above) : result;
    result = size == all(kInfinity) ? (negative ? k.minus_infinity : k.plus_infinity) : result;
    return (I)size > (I)all(kInfinity) ? all(kNaN) : result;
}

// Reduces a rounded magnitude modulo the range. A float of 2^60 steps or more is a multiple of every period; an
// infinity becomes NaN.
inline F wrapped(F size, F rounded, U sign, const Spread& k) {
    const F cap = all(0x1p60f), no_fraction = all(0x1p23f);
    const F scaled = rounded * k.per_step;
    const I beyond_cap = ((I)bits(size) < (I)all(kInfinity)) & (scaled > cap);
    const F steps = beyond_cap ? cap : scaled;
    const F periods = steps * k.per_period;
    const F count = __builtin_convertvector(__builtin_convertvector(smaller(no_fraction, periods), I), F);
    const F offset = (periods < no_fraction ? periods - count : periods - periods) * k.period;
    F result = value(bits(offset) ^ sign);
    result = result < k.low_steps ? result + k.period : result;
    result = result >= k.high_steps ? result - k.period : result;
    return result * k.step;
}

// Rounding is monotone and the limits are in the set, so saturation may come first.
template <Mode M>
inline F round_fixed(F x, U word, const Spread& k) {
    if (!k.wraps) x = larger(k.low, smaller(k.high, x));
    const U sign = bits(x) & kSignBit;
    const F size = value(bits(x) ^ sign);
    const F rounded = size < k.whole ? to_steps<false, M>(size, sign, word, k) : size;
    F result = k.wraps ? wrapped(size, rounded, sign, k) : value(bits(rounded) ^ sign);
    result += F{};  // no negative zero
    return result == result ? result : value(sign | kNaN);
}

template <Mode M>
inline void round_float_block(F (&x)[kVectors], const U (&word)[kVectors], const Spread& k) {
    U size[kVectors], sign[kVectors];
    I rare = {};
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) {
        sign[v] = bits(x[v]) & kSignBit;
        size[v] = bits(x[v]) ^ sign[v];
        const U above_normal = size[v] - k.normal;
        rare |= (above_normal >= all(kInfinity) - k.normal) & (size[v] != 0);
    }
    if (__builtin_expect(any(rare), 0)) {
        for (int v = 0; v < kVectors; ++v) x[v] = value(round_any_float<M>(size[v], sign[v], word[v], k) | sign[v]);
        return;
    }
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) {
        const U result = cut_bits<M>(size[v], sign[v], word[v], k);
        const U beyond = (I)sign[v] < 0 ? k.below : k.above;
        x[v] = value(((I)result > (I)k.highest ? beyond : result) | sign[v]);
    }
}

// The random words of a block, in the order of its elements.
struct Words {
    U key0[kPhiloxRounds], key1[kPhiloxRounds];
    U stream_low, stream_high, lane;

    explicit Words(const Key& key) {
        for (int round = 0; round < kPhiloxRounds; ++round) {
            key0[round] = all(uint32_t(key.seed) + uint32_t(round) * kPhiloxWeyl0);
            key1[round] = all(uint32_t(key.seed >> 32) + uint32_t(round) * kPhiloxWeyl1);
        }
        stream_low = all(uint32_t(key.stream));
        stream_high = all(uint32_t(key.stream >> 32));
        for (int l = 0; l < kLanes; ++l) lane[l] = uint32_t(l);
    }

    inline void draw(size_t block, U (&word)[kVectors]) const {
        const uint64_t counter = uint64_t(block) * 16;
#pragma GCC unroll 4
        for (int group = 0; group < kGroups; ++group) {
            // 16 counters never straddle 2^32, since the first is a multiple of 16.
            U c0 = all(uint32_t(counter) + uint32_t(group * kLanes)) + lane, c1 = all(uint32_t(counter >> 32));
            U c2 = stream_low, c3 = stream_high;
#pragma GCC unroll 7
            for (int round = 0; round < kPhiloxRounds; ++round) {
                U high0, low0, high1, low1;
                multiply_wide(c0, all(kPhiloxMultiplier0), high0, low0);
                multiply_wide(c2, all(kPhiloxMultiplier1), high1, low1);
                c0 = high1 ^ c1 ^ key0[round];
                c2 = high0 ^ c3 ^ key1[round];
                c1 = low1;
                c3 = low0;
            }
            word[group] = c0;
            word[kGroups + group] = c1;
            word[2 * kGroups + group] = c2;
            word[3 * kGroups + group] = c3;
        }
    }
};

// The scale factors of a block, in the order of its elements.
struct Factors {
    const Scale& scale;
    float of_element[kBlock];
    size_t spread_index = ~size_t(0);  // the factor that fills of_element, where one does

    explicit Factors(const Scale& s) : scale(s) {}

    inline void fill(size_t begin, size_t count) {
        const size_t run = begin / scale.inner;
        if (run == (begin + count - 1) / scale.inner || scale.count == 1) {
            const size_t index = run % scale.count;
            if (index == spread_index) return;
            spread_index = index;
            for (size_t i = 0; i < kBlock; ++i) of_element[i] = scale.factors[index];
            return;
        }
        spread_index = ~size_t(0);
        size_t index = run % scale.count, left = scale.inner - begin % scale.inner;
        for (size_t i = 0; i < kBlock; ++i) {
            of_element[i] = scale.factors[index];
            if (--left == 0) {
                left = scale.inner;
                if (++index == scale.count) index = 0;
            }
        }
    }
};

template <bool Float, Mode M>
void round_range(const float* x, float* y, size_t begin, size_t end, const Rounding& rounding, const Scale& scale,
                 const Key& key) {
    const Spread k(rounding);
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
        F v[kVectors];
        U word[kVectors] = {};
        if constexpr (M == Mode::stochastic) words.draw(i / kBlock, word);
        for (int j = 0; j < kVectors; ++j) v[j] = load(source + j * kLanes);
        if (scaled) {
            factors.fill(i, count);
            for (int j = 0; j < kVectors; ++j) v[j] = v[j] / load(factors.of_element + j * kLanes);
        }
        if constexpr (Float)
            round_float_block<M>(v, word, k);
        else
            for (int j = 0; j < kVectors; ++j) v[j] = round_fixed<M>(v[j], word[j], k);
        if (scaled)
            for (int j = 0; j < kVectors; ++j) v[j] = v[j] * load(factors.of_element + j * kLanes);
        for (int j = 0; j < kVectors; ++j) store(target + j * kLanes, v[j]);
        if (__builtin_expect(count < kBlock, 0)) memcpy(y + i, edge, count * sizeof(float));
    }
}

template <bool Float>
constexpr RoundRange kByMode[kModes] = {
    round_range<Float, Mode::toward_zero>,  round_range<Float, Mode::nearest_even>,
    round_range<Float, Mode::nearest_away>, round_range<Float, Mode::up>,
    round_range<Float, Mode::down>,         round_range<Float, Mode::to_odd>,
    round_range<Float, Mode::stochastic>,
};

}  // namespace

void round(const float* x, float* y, size_t begin, size_t end, const Rounding& rounding, const Scale& scale,
           const Key& key) {
    const int mode = int(rounding.mode);
    (rounding.is_float ? kByMode<true>[mode] : kByMode<false>[mode])(x, y, begin, end, rounding, scale, key);
}

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
