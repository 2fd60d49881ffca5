// Rounding of vectors, in float or double arithmetic; round_reference.cc says the same plainly.
//
// Floats: the kept bits of a normal number follow from one integer addition and a mask on its code (the sign apart),
// since the codes of neighbouring values are consecutive, carries into the exponent included. Numbers below the
// format's smallest normal one, infinities and NaN are rare in most formats: a block of 64 elements takes the longer
// way only if it holds one. Zero is not rare after a ReLU, and is right on the short way.
#pragma once

#include "lanes64.h"
#include "round.h"
#include "round_sums.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

template <typename T>
inline typename Lane<T>::Bits code(T v) {
    typename Lane<T>::Bits c;
    memcpy(&c, &v, sizeof c);
    return c;
}

// 2^exponent for exponents of normal numbers.
template <typename T>
inline T power(int exponent) {
    const typename Lane<T>::Bits c = typename Lane<T>::Bits(exponent + Lane<T>::bias) << Lane<T>::fraction;
    T v;
    memcpy(&v, &c, sizeof v);
    return v;
}

template <typename T>
struct Codes {
    typedef typename Lane<T>::Bits Bits;
    static constexpr Bits sign = Bits(1) << (Lane<T>::width - 1);
    static constexpr Bits infinity = Bits(2 * Lane<T>::bias + 1) << Lane<T>::fraction;
    static constexpr Bits nan = infinity | Bits(1) << (Lane<T>::fraction - 1);
};

// Sums round in float only.
template <typename T>
struct BySums {
    struct Constants {
        explicit Constants(const RoundingIn<T>&) {}
    };
};
template <>
struct BySums<float> {
    typedef Sums Constants;
};

// The constants of a call, spread over lanes once.
template <typename T>
struct Spread {
    typedef typename Lane<T>::Value Value;
    typedef typename Lane<T>::Code Code;
    typedef typename Lane<T>::Bits Bits;
    static constexpr int kDrawn = Lane<T>::fraction + 1;  // random bits are compared as integers of so many bits

    int cut;  // fraction bits to cut off
    Code rest, half_less_one, half, parity, flip;
    Code keep, keep_of_cut;
    int draw_shift;
    Code normal, highest, above, below, plus_infinity, minus_infinity;
    Value step, whole, per_step, per_step_drawn, per_step_rest, drawn_step;
    Value least, low, high, below_value;
    bool small_is_common;  // subnormals are no exception in data of deviation 1
    bool small_is_short;   // a subnormal number of steps and the random bits together fit into 31 bits
    bool odd_signs;        // no negative numbers, or no negative zero
    bool positive;         // no negative numbers
    bool zero, all_normal;
    bool wraps;
    Value period, per_period, low_steps, high_steps;
    const typename BySums<T>::Constants sums;

    explicit Spread(const RoundingIn<T>& r) : sums(r) {
        cut = Lane<T>::fraction - r.significand_bits;
        const Bits one = Bits(1) << cut;
        rest = all(Bits(one - 1));
        half = all(cut ? Bits(one >> 1) : Bits(0));
        half_less_one = all(cut ? Bits((one >> 1) - 1) : Bits(0));
        parity = all(Bits(cut ? 1 : 0));
        flip = all(Bits(r.flip_parity ? 1 : 0));
        keep = all(Bits(~Bits(0) << (Lane<T>::width - r.random_bits)));
        keep_of_cut = cut ? keep : Code{};
        draw_shift = cut ? Lane<T>::width - cut : Lane<T>::width - 1;
        normal = all(code(r.smallest_normal));
        highest = all(code(r.highest));
        above = all(Bits(code(r.above) & ~Codes<T>::sign));
        below = all(Bits(code(r.below) & ~Codes<T>::sign));
        plus_infinity = all(Bits(code(r.plus_infinity) & ~Codes<T>::sign));
        minus_infinity = all(Bits(code(r.minus_infinity) & ~Codes<T>::sign));
        whole = all(power<T>(Lane<T>::fraction + r.step_exponent));
        // The inverse of the least step is beyond the largest number: two factors.
        const int first = r.step_exponent < -Lane<T>::safe ? -Lane<T>::safe : r.step_exponent;
        per_step = all(power<T>(-first));
        per_step_drawn = all(power<T>(kDrawn - first));
        per_step_rest = all(power<T>(first - r.step_exponent));
        step = all(T(power<T>(first) * power<T>(r.step_exponent - first)));
        drawn_step = all(power<T>(first - kDrawn));
        least = all(r.smallest_normal);
        low = all(r.lowest);
        high = all(r.highest);
        below_value = all(r.below);
        small_is_common = r.is_float && r.smallest_normal >= power<T>(-10);
        small_is_short = r.is_float && r.significand_bits + kDrawn < 31 && first == r.step_exponent;
        positive = r.is_float && r.lowest >= T(0);
        odd_signs = r.is_float && (!r.negative_zero || positive);
        zero = r.zero;
        all_normal = r.all_normal;
        wraps = r.wrap_bits != 0;
        period = all(power<T>(r.wrap_bits));
        per_period = all(power<T>(-r.wrap_bits));
        low_steps = r.is_float ? Value{} : all(T(r.lowest * power<T>(-first)));
        high_steps = low_steps + period;
    }
};

// Rounds normal magnitudes (as codes) to the kept bits.
template <typename T, Mode M>
inline typename Lane<T>::Code cut_bits(typename Lane<T>::Code size, typename Lane<T>::Code sign,
                                       typename Lane<T>::Code word, const Spread<T>& k) {
    typedef typename Lane<T>::Code Code;
    typedef typename Lane<T>::Signed Signed;
    Code sum = size;
    if constexpr (M == Mode::nearest_even) sum += k.half_less_one + (((size >> k.cut) ^ k.flip) & k.parity);
    if constexpr (M == Mode::nearest_away) sum += k.half;
    if constexpr (M == Mode::up) sum += (Signed)sign < 0 ? Code{} : k.rest;
    if constexpr (M == Mode::down) sum += (Signed)sign < 0 ? k.rest : Code{};
    if constexpr (M == Mode::to_odd) {
        const Code even = ~((size >> k.cut) ^ k.flip) & k.parity;
        sum += (size & k.rest) != 0 ? even << k.cut : Code{};
    }
    if constexpr (M == Mode::stochastic) sum += (word & k.keep_of_cut) >> k.draw_shift;
    return sum & ~k.rest;
}

// The drawn bits at the top of an integer of kDrawn bits.
template <typename T>
inline typename Lane<T>::Code drawn(typename Lane<T>::Code word, const Spread<T>& k) {
    return (word & k.keep) >> (Lane<T>::width - Spread<T>::kDrawn);
}

// 1 less the drawn fraction, times 2^kDrawn: an integer that T holds.
template <typename T>
inline typename Lane<T>::Value left_over(typename Lane<T>::Code word, const Spread<T>& k) {
    typedef typename Lane<T>::Bits Bits;
    const typename Lane<T>::Code left = all(Bits(Bits(1) << Spread<T>::kDrawn)) - drawn<T>(word, k);
    return __builtin_convertvector((typename Lane<T>::Signed)left, typename Lane<T>::Value);
}

// Rounds magnitudes below 2^23 (2^52) steps to whole steps. From 2^23 to 2^24 steps the gap between float32 values is
// one step, so adding 2^23 steps and taking them away again is rounding to nearest even, exactly; the other modes
// correct its result.
template <typename T, bool Float, Mode M>
inline typename Lane<T>::Value to_steps(typename Lane<T>::Value size, typename Lane<T>::Code sign,
                                        typename Lane<T>::Code word, const Spread<T>& k) {
    typedef typename Lane<T>::Value Value;
    typedef typename Lane<T>::Signed Signed;
    const Value nearest = (size + k.whole) - k.whole;
    if constexpr (M == Mode::nearest_even) return nearest;
    const Value floor = nearest > size ? nearest - k.step : nearest;
    if constexpr (M == Mode::toward_zero) return floor;
    const Value next = floor + k.step;
    const Signed negative = (Signed)sign < 0;
    const Value cut_off = size - floor;
    if constexpr (M == Mode::nearest_away) return cut_off + cut_off >= k.step ? next : floor;
    if constexpr (M == Mode::up) return (size > floor) & ~negative ? next : floor;
    if constexpr (M == Mode::down) return (size > floor) & negative ? next : floor;
    if constexpr (M == Mode::to_odd) return (size > floor) & ((Signed)(bits(floor + k.whole) & 1) - 1) ? next : floor;
    // rest + drawn * 2^-24 >= 1, exactly: times 2^24, both sides below are float32 values, and what underflows is less
    // than 1.
    Value rest = cut_off * k.per_step_drawn;
    if constexpr (Float) rest *= k.per_step_rest;
    return rest >= left_over<T>(word, k) ? next : floor;
}

// The same, stochastic, for formats of few fraction bits in float: whole steps and random bits are one integer sum.
inline F to_short_steps(F size, U word, const Spread<float>& k) {
    const U steps = (U) __builtin_convertvector(smaller(size, k.least) * k.per_step_drawn, I);
    const U sum = (steps + drawn<float>(word, k)) & all(~0u << Spread<float>::kDrawn);
    return __builtin_convertvector((I)sum, F) * k.drawn_step;
}

// Rounds magnitudes below the smallest number of a format that has no subnormal codes.
template <typename T, Mode M>
inline typename Lane<T>::Value to_least(typename Lane<T>::Value size, typename Lane<T>::Code sign,
                                        typename Lane<T>::Code word, const Spread<T>& k) {
    typedef typename Lane<T>::Value Value;
    const typename Lane<T>::Signed negative = (typename Lane<T>::Signed)sign < 0;
    const Value zero = {};
    if constexpr (M == Mode::toward_zero) return zero;
    if constexpr (M == Mode::nearest_even) return size + size > k.least ? k.least : zero;
    if constexpr (M == Mode::nearest_away) return size + size >= k.least ? k.least : zero;
    if constexpr (M == Mode::up) return (size > zero) & ~negative ? k.least : zero;
    if constexpr (M == Mode::down) return (size > zero) & negative ? k.least : zero;
    if constexpr (M == Mode::to_odd) return size > zero ? k.least : zero;
    // Exact in double: the smallest number has at most 24 bits, and so have the random numbers of these formats.
    return size >= k.least * (left_over<T>(word, k) * all(power<T>(-Spread<T>::kDrawn))) ? k.least : zero;
}

template <typename T, Mode M>
inline typename Lane<T>::Code round_small(typename Lane<T>::Code size, typename Lane<T>::Code sign,
                                          typename Lane<T>::Code word, const Spread<T>& k) {
    if constexpr (sizeof(T) == sizeof(double)) {
        if (k.all_normal) return bits(to_least<T, M>(value(size), sign, word, k));
    } else if constexpr (M == Mode::stochastic) {
        if (k.small_is_short) return bits(to_short_steps(value(size), word, k));
    }
    return bits(to_steps<T, true, M>(value(size), sign, word, k));
}

// Finite magnitudes, as codes.
template <typename T, Mode M>
inline typename Lane<T>::Code round_finite(typename Lane<T>::Code size, typename Lane<T>::Code sign,
                                           typename Lane<T>::Code word, const Spread<T>& k) {
    typedef typename Lane<T>::Code Code;
    typedef typename Lane<T>::Signed Signed;
    const Code small = round_small<T, M>(size, sign, word, k);
    const Code result = (Signed)size < (Signed)k.normal ? small : cut_bits<T, M>(size, sign, word, k);
    return (Signed)result > (Signed)k.highest ? ((Signed)sign < 0 ? k.below : k.above) : result;
}

template <typename T, Mode M>
inline typename Lane<T>::Code round_any(typename Lane<T>::Code size, typename Lane<T>::Code sign,
                                        typename Lane<T>::Code word, const Spread<T>& k) {
    typedef typename Lane<T>::Code Code;
    typedef typename Lane<T>::Signed Signed;
    const Code infinity = all(Codes<T>::infinity), nan = all(Codes<T>::nan);
    Code result = round_finite<T, M>(size, sign, word, k);
    result = size == infinity ? ((Signed)sign < 0 ? k.minus_infinity : k.plus_infinity) : result;
    return (Signed)size > (Signed)infinity ? nan : result;
}

// Reduces a rounded magnitude modulo the range. A float of 2^60 steps or more is a multiple of every period; an
// infinity becomes NaN.
template <typename T>
inline typename Lane<T>::Value wrapped(typename Lane<T>::Value size, typename Lane<T>::Value rounded,
                                       typename Lane<T>::Code sign, const Spread<T>& k) {
    typedef typename Lane<T>::Value Value;
    typedef typename Lane<T>::Signed Signed;
    constexpr int many = Lane<T>::width == 32 ? 60 : 120;
    const Value cap = all(power<T>(many)), no_fraction = all(power<T>(Lane<T>::fraction));
    const Value scaled = rounded * k.per_step;
    const Signed beyond_cap = ((Signed)bits(size) < (Signed)all(Codes<T>::infinity)) & (scaled > cap);
    const Value steps = beyond_cap ? cap : scaled;
    const Value periods = steps * k.per_period;
    const Value count = __builtin_convertvector(__builtin_convertvector(smaller(no_fraction, periods), Signed), Value);
    const Value offset = (periods < no_fraction ? periods - count : periods - periods) * k.period;
    Value result = value(bits(offset) ^ sign);
    result = result < k.low_steps ? result + k.period : result;
    result = result >= k.high_steps ? result - k.period : result;
    return result * k.step;
}

// Rounding is monotone and the limits are in the set, so saturation may come first.
template <typename T, Mode M>
inline typename Lane<T>::Value round_fixed(typename Lane<T>::Value x, typename Lane<T>::Value low,
                                           typename Lane<T>::Value high, typename Lane<T>::Code word,
                                           const Spread<T>& k) {
    typedef typename Lane<T>::Value Value;
    typedef typename Lane<T>::Code Code;
    if (!k.wraps) x = larger(low, smaller(high, x));
    const Code sign = bits(x) & Codes<T>::sign;
    const Value size = value(bits(x) ^ sign);
    const Value rounded = size < k.whole ? to_steps<T, false, M>(size, sign, word, k) : size;
    Value result = k.wraps ? wrapped<T>(size, rounded, sign, k) : value(bits(rounded) ^ sign);
    result += Value{};  // no negative zero
    return result == result ? result : value(sign | Codes<T>::nan);
}

template <typename T, Mode M>
inline typename Lane<T>::Value round_binary(typename Lane<T>::Value x, typename Lane<T>::Code word,
                                            const Spread<T>& k) {
    typedef typename Lane<T>::Value Value;
    const Value one = all(T(1));
    typename Lane<T>::Signed positive = x >= Value{};
    if constexpr (M == Mode::up) positive = x > -one;
    if constexpr (M == Mode::down) positive = x >= one;
    if constexpr (M == Mode::stochastic) {
        const Value left = left_over<T>(word, k) * all(power<T>(1 - Spread<T>::kDrawn));
        positive = x >= left - one;
    }
    const Value result = positive ? one : -one;
    return x == x ? result : value((bits(x) & Codes<T>::sign) | Codes<T>::nan);
}

// True where one of N vectors holds a NaN.
template <int N>
__attribute__((always_inline)) inline bool has_nan(const F (&x)[N]) {
    bool found = false;
#pragma GCC unroll 16
    for (int v = 0; v < N; v += 2) found |= any_nan(x[v], x[v + 1]);
    return found;
}

// N vectors that make a block of 64 elements.
template <typename T, Mode M, int N>
__attribute__((always_inline)) inline void round_float_block(typename Lane<T>::Value (&x)[N],
                                                             const typename Lane<T>::Code (&word)[N],
                                                             const Spread<T>& k) {
    if constexpr (sizeof(T) == sizeof(float) && kBySums<M>) {
        if (k.sums.suit && __builtin_expect(!has_nan(x), 1)) {
#pragma GCC unroll 16
            for (int v = 0; v < N; ++v)
                x[v] = round_float_by_sums<M>(x[v], word[v], k.sums.normal, k.sums.highest, k.sums);
            return;
        }
    }
    typedef typename Lane<T>::Value Value;
    typedef typename Lane<T>::Code Code;
    typedef typename Lane<T>::Signed Signed;
    const Code infinity = all(Codes<T>::infinity);
    Code size[N], sign[N];
    Signed rare = {}, special = {};
#pragma GCC unroll 16
    for (int v = 0; v < N; ++v) {
        sign[v] = bits(x[v]) & Codes<T>::sign;
        size[v] = bits(x[v]) ^ sign[v];
        if (!k.zero) {
            const Code lowest = bits(k.low);
            size[v] = (size[v] != 0) & (sign[v] == 0) & ((Signed)size[v] < (Signed)lowest) ? lowest : size[v];
        }
        rare |= (size[v] - k.normal >= infinity - k.normal) & (size[v] != 0);
        special |= (Signed)size[v] >= (Signed)infinity;
    }
    if (__builtin_expect(any(special), 0)) {
        for (int v = 0; v < N; ++v) x[v] = value(round_any<T, M>(size[v], sign[v], word[v], k) | sign[v]);
    } else if ((M == Mode::stochastic && k.small_is_common) || any(rare)) {
        for (int v = 0; v < N; ++v) x[v] = value(round_finite<T, M>(size[v], sign[v], word[v], k) | sign[v]);
    } else {
#pragma GCC unroll 16
        for (int v = 0; v < N; ++v) {
            const Code result = cut_bits<T, M>(size[v], sign[v], word[v], k);
            const Code beyond = (Signed)sign[v] < 0 ? k.below : k.above;
            x[v] = value(((Signed)result > (Signed)k.highest ? beyond : result) | sign[v]);
        }
    }
    if (__builtin_expect(k.odd_signs, 0)) {
        const Value lowest = k.positive ? k.low : value(infinity | Codes<T>::sign);
        for (int v = 0; v < N; ++v) {
            const Value plain = x[v] + Value{};
            const Value result = plain < lowest ? k.below_value : plain;
            x[v] = result == result ? result : value(sign[v] | Codes<T>::nan);
        }
    }
}

// The same in fixed point; `low` and `high` give the limits of a vector.
template <typename T, Mode M, int N, typename Low, typename High>
__attribute__((always_inline)) inline void round_fixed_block(typename Lane<T>::Value (&x)[N],
                                                             const typename Lane<T>::Code (&word)[N], const Low& low,
                                                             const High& high, const Spread<T>& k) {
    if constexpr (sizeof(T) == sizeof(float) && M == Mode::stochastic && kTruncates) {
        if (k.sums.suit && __builtin_expect(!has_nan(x), 1)) {
#pragma GCC unroll 16
            for (int v = 0; v < N; ++v)
                x[v] = round_fixed_by_sums(x[v], word[v], low(v), high(v), k.sums.step, k.sums.per_step, k.sums);
            return;
        }
    }
    for (int v = 0; v < N; ++v) x[v] = round_fixed<T, M>(x[v], low(v), high(v), word[v], k);
}

}  // namespace
}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
