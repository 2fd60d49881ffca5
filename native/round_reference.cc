#include "round_reference.h"

#include <cmath>
#include <limits>

#include "philox.h"

namespace convsmith {
namespace {

uint32_t random_word(size_t index, const Key& key) {
    const uint64_t counter = index / 64 * 16 + index % 16;
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
    return c[index % 64 / 16];
}

// Every float32, scaled by any power of two that a format may have, is an ordinary double: the arithmetic here is
// exact.
double round_magnitude(double size, bool negative, const Rounding& r, uint32_t word) {
    int step = r.step_exponent;
    int exponent_of_code = 0;
    if (r.is_float && size >= double(r.smallest_normal)) {
        step = std::ilogb(size) - r.significand_bits;
        exponent_of_code = std::ilogb(size) - std::ilogb(r.smallest_normal);
    }
    const double steps = std::ldexp(size, -step);
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
            away = rest + std::ldexp(double(word >> (32 - r.random_bits)), -r.random_bits) >= 1.0;
            break;
    }
    return std::ldexp(whole + (away ? 1.0 : 0.0), step);
}

double wrapped(double value, const Rounding& r) {
    const double period = std::ldexp(1.0, r.wrap_bits + r.step_exponent);
    double offset = std::fmod(value, period);
    if (offset < double(r.lowest)) offset += period;
    return offset >= double(r.lowest) + period ? offset - period : offset;
}

// The magnitude with the sign of x, before the range is looked at.
double round_unbounded(float x, const Rounding& r, uint32_t word) {
    const double magnitude = round_magnitude(std::fabs(double(x)), std::signbit(x), r, word);
    return std::signbit(x) ? -magnitude : magnitude;
}

float round_one(float x, const Rounding& r, uint32_t word) {
    const bool negative = std::signbit(x);
    const float nan = std::copysign(std::numeric_limits<float>::quiet_NaN(), x);
    if (std::isnan(x) || (std::isinf(x) && r.wrap_bits)) return nan;
    float result;
    if (std::isinf(x)) {
        result = negative ? r.minus_infinity : r.plus_infinity;
    } else {
        const double value = round_unbounded(x, r, word);
        if (r.wrap_bits)
            result = float(wrapped(value, r));
        else if (value > double(r.highest))
            result = r.above;
        else
            result = value < double(r.lowest) ? r.below : float(value);
    }
    if (std::isnan(result)) return nan;
    return r.is_float ? std::copysign(result, x) : result + 0.0f;
}

void count_one(float x, float quotient, float result, const Rounding& r, uint32_t word, Counts& counts) {
    if (std::isnan(x)) {
        ++counts.nans;
    } else if (std::isinf(x)) {
        ++counts.infinities;
    } else {
        const double value = std::isinf(quotient) ? double(quotient) : round_unbounded(quotient, r, word);
        if (value > double(r.highest) || value < double(r.lowest))
            ++counts.overflows;
        else if (x != 0 && result == 0)
            ++counts.underflows;
    }
}

}  // namespace

void round_reference(const float* x, float* y, size_t begin, size_t end, const Rounding& r, const Scale& scale,
                     const Key& key) {
    for (size_t i = begin; i < end; ++i) {
        const uint32_t word = r.mode == Mode::stochastic ? random_word(i, key) : 0;
        if (!scale.factors) {
            y[i] = round_one(x[i], r, word);
            continue;
        }
        const float factor = scale.factors[i / scale.inner % scale.count];
        y[i] = round_one(x[i] / factor, r, word) * factor;
    }
}

void count_reference(const float* x, float* y, size_t begin, size_t end, const Rounding& r, const Scale& scale,
                     const Key& key, Counts& counts) {
    for (size_t i = begin; i < end; ++i) {
        const uint32_t word = r.mode == Mode::stochastic ? random_word(i, key) : 0;
        const float factor = scale.factors ? scale.factors[i / scale.inner % scale.count] : 1.0f;
        const float value = x[i], quotient = value / factor, result = round_one(quotient, r, word);
        count_one(value, quotient, result, r, word, counts);
        y[i] = result * factor;
    }
}

}  // namespace convsmith
