#include "round_reference.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "philox.h"

namespace convsmith {
namespace {

uint32_t philox_word(uint64_t counter, size_t which, const Key& key) {
    uint32_t c[4] = {uint32_t(counter), uint32_t(counter >> 32), uint32_t(key.stream), uint32_t(key.stream >> 32)};
    uint32_t k0 = uint32_t(key.seed), k1 = uint32_t(key.seed >> 32);
    for (int round = 0; round < kPhiloxRounds; ++round) {
        const uint64_t first = uint64_t(c[0]) * kPhiloxMultiplier0, second = uint64_t(c[2]) * kPhiloxMultiplier1;
        c[0] = uint32_t(second >> 32) ^ c[1] ^ k0;
        c[1] = uint32_t(second);
        c[2] = uint32_t(first >> 32) ^ c[3] ^ k1;
        c[3] = uint32_t(first);
        k0 += kPhiloxWeyl0;
        k1 += kPhiloxWeyl1;
    }
    return c[which];
}

// 1 less the drawn fraction: exact, as its integer has at most 53 bits.
double left_over(int random_bits, uint64_t word) {
    return 1.0 - std::ldexp(double(word >> (64 - random_bits)), -random_bits);
}

// Every number of the carrier, scaled by any power of two that a format may have, is an ordinary double, or, where it
// is far from the format's range, is replaced by one that rounds alike: the arithmetic here is exact.
template <typename T>
double round_magnitude(double size, bool negative, const RoundingIn<T>& r, uint64_t word) {
    if (r.all_normal && size < double(r.smallest_normal)) {
        const double least = double(r.smallest_normal);
        const bool away = r.mode == Mode::nearest_even   ? size > least / 2
                          : r.mode == Mode::nearest_away ? size >= least / 2
                          : r.mode == Mode::up           ? size > 0 && !negative
                          : r.mode == Mode::down         ? size > 0 && negative
                          : r.mode == Mode::to_odd       ? size > 0
                          : r.mode == Mode::stochastic   ? size >= least * left_over(r.random_bits, word)
                                                         : false;
        return away ? least : 0.0;
    }
    int step = r.step_exponent;
    int exponent_of_code = 0;
    if (r.is_float && size >= double(r.smallest_normal)) {
        step = std::ilogb(size) - r.significand_bits;
        exponent_of_code = std::ilogb(size) - std::ilogb(double(r.smallest_normal)) + (r.zero ? 0 : 1);
    }
    double steps = std::ldexp(std::min(size, 0x1p800), -step);
    if (r.is_float && size >= double(r.smallest_normal)) steps = std::ldexp(size, -step);
    if (size > 0) steps = std::max(steps, 0x1p-800);
    const double whole = std::floor(steps), rest = steps - whole;
    bool odd = std::fmod(whole, 2.0) == 1.0;
    if (r.is_float && r.significand_bits == 0 && exponent_of_code % 2 == 1) odd = !odd;
    bool away = false;
    switch (r.mode) {
        case Mode::toward_zero:
            break;
        case Mode::nearest_even:
            away = rest > 0.5 || (rest == 0.5 && odd);
            break;
        case Mode::nearest_away:
            away = rest >= 0.5;
            break;
        case Mode::up:
            away = rest > 0 && !negative;
            break;
        case Mode::down:
            away = rest > 0 && negative;
            break;
        case Mode::to_odd:
            away = rest > 0 && !odd;
            break;
        case Mode::stochastic:
            away = rest >= left_over(r.random_bits, word);
            break;
    }
    return std::ldexp(whole + (away ? 1.0 : 0.0), step);
}

template <typename T>
double wrapped(double value, const RoundingIn<T>& r) {
    const double period = std::ldexp(1.0, r.wrap_bits + r.step_exponent);
    double offset = std::fmod(value, period);
    if (offset < double(r.lowest)) offset += period;
    return offset >= double(r.lowest) + period ? offset - period : offset;
}

template <typename T>
double round_binary(double x, const RoundingIn<T>& r, uint64_t word) {
    double threshold = 0.0;
    if (r.mode == Mode::up) return x > -1 ? 1 : -1;
    if (r.mode == Mode::down) threshold = 1.0;
    if (r.mode == Mode::stochastic) threshold = 2 * left_over(r.random_bits, word) - 1;
    return x >= threshold ? 1 : -1;
}

void count_one(float x, float quotient, double result, const Rounding& r, uint64_t word, Counts& counts) {
    if (std::isnan(x)) {
        ++counts.nans;
    } else if (std::isinf(x)) {
        ++counts.infinities;
    } else {
        const bool negative = std::signbit(quotient);
        const double size = std::fabs(double(quotient));
        const double magnitude = std::isinf(size) ? size : round_magnitude(size, negative, r, word);
        if (negative ? -magnitude < double(r.lowest) : magnitude > double(r.highest))
            ++counts.overflows;
        else if (x != 0 && result == 0)
            ++counts.underflows;
    }
}

double at(const Numbers& x, size_t index) {
    return x.wide ? static_cast<const double*>(x.data)[index] : double(static_cast<const float*>(x.data)[index]);
}

void put(const Numbers& y, size_t index, double value) {
    if (y.wide)
        static_cast<double*>(y.data)[index] = value;
    else
        static_cast<float*>(y.data)[index] = float(value);
}

size_t factor_index(size_t i, const Scale& scale) {
    if (!scale.group || scale.count == 1) return i / scale.inner % scale.count;
    const size_t row = i / scale.inner, groups = (scale.length + scale.group - 1) / scale.group;
    return (row / scale.length * groups + row % scale.length / scale.group) * scale.inner + i % scale.inner;
}

template <typename T>
void round_all(const Numbers& x, const Numbers& y, size_t begin, size_t end, const RoundingIn<T>& r, const Scale& scale,
               const Key& key) {
    const bool narrow = !x.wide && !y.wide;
    for (size_t i = begin; i < end; ++i) {
        const uint64_t word = r.mode == Mode::stochastic ? random_word(i, key, r.random_bits > 32) : 0;
        if (!scale.factors) {
            put(y, i, round_one(at(x, i), r, word, 0.0));
            continue;
        }
        const size_t index = factor_index(i, scale);
        const double factor = double(scale.factors[index]);
        const double zero = scale.zeros ? std::ldexp(double(scale.zeros[index]), r.step_exponent) : 0.0;
        double quotient = at(x, i) / factor;
        if (narrow) quotient = double(float(quotient));
        put(y, i, round_one(quotient, r, word, zero) * factor);
    }
}

}  // namespace

uint64_t random_word(size_t index, const Key& key, bool wide) {
    const uint64_t counter = index / 64 * 16 + index % 16;
    const size_t which = index % 64 / 16;
    const uint64_t upper = uint64_t(philox_word(counter, which, key)) << 32;
    return wide ? upper | philox_word(counter | uint64_t(1) << 63, which, key) : upper;
}

template <typename T>
double round_one(double x, const RoundingIn<T>& r, uint64_t word, double zero) {
    const bool negative = std::signbit(x);
    const double nan = std::copysign(std::numeric_limits<double>::quiet_NaN(), x);
    if (std::isnan(x) || (std::isinf(x) && r.wrap_bits)) return nan;
    if (r.is_binary) return round_binary(x, r, word);
    const double low = double(r.lowest) - zero, high = double(r.highest) - zero;
    double result;
    if (std::isinf(x) && r.is_float) {
        result = negative ? double(r.minus_infinity) : double(r.plus_infinity);
    } else {
        double size = std::min(std::fabs(x), std::numeric_limits<double>::max());
        if (!r.zero && x > 0) size = std::max(size, low);
        const double magnitude = round_magnitude(size, negative, r, word);
        result = std::copysign(magnitude, x);
        if (r.wrap_bits)
            result = wrapped(result, r);
        else if (!r.negative_zero)
            result += 0.0;
        if (!r.is_float && !r.wrap_bits)
            result = std::min(std::max(result, low), high);
        else if (result > high)
            result = double(r.above);
        else if (result < low)
            result = double(r.below);
    }
    if (std::isnan(result)) return nan;
    return r.is_float ? result : result + 0.0;
}

template double round_one<float>(double, const Rounding&, uint64_t, double);
template double round_one<double>(double, const WideRounding&, uint64_t, double);

void round_reference(const float* x, float* y, size_t begin, size_t end, const Rounding& r, const Scale& scale,
                     const Key& key) {
    round_all(Numbers{const_cast<float*>(x), false}, Numbers{y, false}, begin, end, r, scale, key);
}

void count_reference(const float* x, float* y, size_t begin, size_t end, const Rounding& r, const Scale& scale,
                     const Key& key, Counts& counts) {
    for (size_t i = begin; i < end; ++i) {
        const uint64_t word = r.mode == Mode::stochastic ? random_word(i, key, false) : 0;
        const float factor = scale.factors ? scale.factors[factor_index(i, scale)] : 1.0f;
        const float value = x[i], quotient = value / factor;
        const double result = round_one(quotient, r, word, 0.0);
        count_one(value, quotient, result, r, word, counts);
        y[i] = float(result) * factor;
    }
}

void round_wide_reference(Numbers x, Numbers y, size_t begin, size_t end, const WideRounding& r, const Scale& scale,
                          const Key& key) {
    round_all(x, y, begin, end, r, scale, key);
}

}  // namespace convsmith
