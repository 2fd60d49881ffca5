// Which carrier is exact for an arithmetic and the factors at hand: the proofs are beside the conditions.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "rounded_product.h"
#include "threads.h"

namespace convsmith {
namespace {

// Numbers that are looked at sooner than a second thread is awake.
constexpr size_t kSmall = 1 << 19;

constexpr uint32_t kInfinityCode = 0x7f800000u, kFraction = 0x007fffffu;

// What is known of an array of factors.
struct Survey {
    bool finite;
    float largest;     // magnitude
    float lowest_bit;  // the value of the lowest bit that any number has; infinity where all are zero
    int bits;          // significand bits that hold every number
};

Survey survey(const float* values, size_t count, const Level& level) {
    RoundedSurvey seen;
    level.look(values, count, seen);
    Survey found;
    found.finite = seen.largest < kInfinityCode;
    std::memcpy(&found.largest, &seen.largest, sizeof seen.largest);
    found.lowest_bit = seen.lowest_bit;
    found.bits = 24 - __builtin_ctz((seen.used & kFraction) | (1u << 23));
    return found;
}

bool same(float a, float b) { return a == b || (std::isnan(a) && std::isnan(b)); }

// Whether the format has float32's smallest numbers and its largest exponent.
bool is_masked(const Rounding& r) {
    return r.smallest_normal == std::ldexp(1.0f, -126) && r.step_exponent == -126 - r.significand_bits &&
           r.highest == std::ldexp(2.0f - std::ldexp(1.0f, -r.significand_bits), 127) &&
           (r.above == r.highest || std::isinf(r.above));
}

// Whether rounded_precise.cc is to round.
bool is_precise(const Rounding& r) { return r.mode == Mode::nearest_even && r.significand_bits > 21; }

// Whether numbers between roundings can be float32. Factors are finite, so an infinity comes from overflow only.
bool fits_narrow(const RoundedArithmetic& arithmetic) {
    const Rounding& r = arithmetic.sum;
    if (!r.is_float || (arithmetic.rounds_product && !arithmetic.same_format)) return false;
    if (!r.negative_zero || r.lowest != -r.highest || r.significand_bits < 1) return false;
    // A draw is compared with the bits after those that are kept; the last of 24 says whether anything follows.
    if (r.mode == Mode::stochastic && r.significand_bits + r.random_bits > 22) return false;
    if (r.significand_bits > 21 && !is_precise(r) && !(r.mode == Mode::toward_zero && is_masked(r))) return false;
    if (r.significand_bits > 22 && r.mode == Mode::toward_zero) return false;
    // Overflow and infinity must mean the same, on both sides.
    return same(r.above, r.plus_infinity) && same(r.below, r.minus_infinity) && same(std::fabs(r.below), r.above);
}

// Whether the numbers that rounding by steps adds and compares are normal float32 numbers.
bool is_stepped(const Rounding& r) {
    const int least = std::ilogb(r.smallest_normal), random = r.mode == Mode::stochastic ? r.random_bits : 0;
    if (r.step_exponent != least - r.significand_bits) return false;
    // Only numbers below the smallest normal one are rounded by steps there.
    if (is_precise(r)) return r.step_exponent + 23 >= -126;
    return r.step_exponent - random >= -126 && std::ilogb(r.highest) + 1 + 23 - r.significand_bits <= 127;
}

bool is_half(const Rounding& r) {
    return r.significand_bits == 10 && r.smallest_normal == 0x1p-14f && r.step_exponent == -24 &&
           r.highest == 65504.0f && std::isinf(r.above);
}

// Whether products of these factors are float32 numbers, and rounding sums to float32 first is innocuous. The sum of a
// block is any float32 number, so the theorem does not speak of it.
bool is_exact(const RoundedArithmetic& arithmetic, const Survey& a, const Survey& b) {
    const double lowest = double(a.lowest_bit) * double(b.lowest_bit), largest = double(a.largest) * double(b.largest);
    if (!arithmetic.rounds_product || arithmetic.order == Order::blocked) return false;
    // Chopping never leaves the range of a format with float32's exponents: nothing is left to be checked.
    if (arithmetic.sum.mode == Mode::toward_zero) return is_masked(arithmetic.sum);
    return arithmetic.sum.mode == Mode::nearest_even && arithmetic.sum.significand_bits <= 10 &&
           a.bits + b.bits <= 24 && lowest >= std::ldexp(1.0, -149) && largest < std::ldexp(1.0, 128);
}

// Finds scales that make the factors 16-bit integers, so that products and what is added to round them have 32 bits.
bool fits_whole(const RoundedArithmetic& arithmetic, const Survey& a, const Survey& b, RoundedPlan& plan) {
    const Rounding& r = arithmetic.sum;
    if (r.is_float || r.wrap_bits || !arithmetic.rounds_product || !arithmetic.same_format) return false;
    if (r.mode == Mode::to_odd || arithmetic.order == Order::blocked) return false;
    const double step = std::ldexp(1.0, r.step_exponent);
    if (double(r.highest) > 65535 * step || double(r.lowest) < -65536 * step) return false;
    const auto fraction = [](const Survey& s) { return std::isinf(s.lowest_bit) ? 0 : -std::ilogb(s.lowest_bit); };
    const auto fits = [](const Survey& s, int bits) { return std::ldexp(double(s.largest), bits) <= 32768; };
    int a_bits = fraction(a);
    const int b_bits = fraction(b);
    a_bits += std::max(0, -r.step_exponent - (a_bits + b_bits));
    const int cut = a_bits + b_bits + r.step_exponent;
    if (!fits(a, a_bits) || !fits(b, b_bits) || cut > 30 || std::max(std::abs(a_bits), std::abs(b_bits)) > 120)
        return false;
    plan.a_scale = std::ldexp(1.0f, a_bits);
    plan.b_scale = std::ldexp(1.0f, b_bits);
    plan.out_scale = float(step);
    plan.cut = cut;
    return true;
}

// Whether adding the product of a finite number and +0 changes no sum, not even the sign of a zero. Sums begin at +0,
// and a sum of two numbers of the format that is not zero is never below its smallest number, so never becomes -0.
bool may_skip(const RoundedArithmetic& arithmetic) {
    const Rounding& r = arithmetic.sum;
    const bool subnormals = !r.is_float || r.step_exponent == std::ilogb(r.smallest_normal) - r.significand_bits;
    return arithmetic.order == Order::sequential && arithmetic.rounds_product && arithmetic.same_format && subnormals;
}

}  // namespace

RoundedPlan plan_rounded(const RoundedArithmetic& arithmetic, const GatheredProduct& product, const Level& level,
                         int threads) {
    RoundedPlan plan = {};
    plan.carrier = Carrier::wide;
    plan.order = arithmetic.order;
    plan.sum = arithmetic.sum;
    plan.product = arithmetic.product;
    plan.rounds_product = arithmetic.rounds_product;
    plan.block = arithmetic.block;
    plan.draw_width = arithmetic.draw_width;
    plan.key[0] = arithmetic.key[0];
    plan.key[1] = arithmetic.key[1];
    if (!level.look) return plan;
    Survey found[2];
    const bool small = product.a_size + product.b_size < kSmall;
    parallel(2, small ? 1 : threads, [&](size_t i) {
        found[i] = i ? survey(product.b, product.b_size, level) : survey(product.a, product.a_size, level);
    });
    if (!found[0].finite || !found[1].finite) return plan;
    plan.skips = may_skip(arithmetic);
    if (fits_whole(arithmetic, found[0], found[1], plan)) {
        plan.carrier = Carrier::whole;
    } else if (fits_narrow(arithmetic)) {
        plan.masked = is_masked(plan.sum);
        plan.saturates = plan.sum.above == plan.sum.highest;
        plan.half = is_half(plan.sum);
        plan.precise = is_precise(plan.sum);
        plan.exact = is_exact(arithmetic, found[0], found[1]);
        if (plan.masked || is_stepped(plan.sum)) plan.carrier = Carrier::narrow;
    }
    return plan;
}

}  // namespace convsmith
