// Rounded products and sums in float lanes, for floating-point formats of at most 22 significand bits and finite
// factors; formats of 23 and 24 bits are those of rounded_precise.cc. Compiled once per instruction set.
//
// A product or a sum is first rounded to float32, and that is made harmless in one of three ways:
// - Exact: nearest even, at most 11 significand bits, products that are float32 numbers. Rounding a sum of two numbers
//   of p bits to 24 bits and then to p is innocuous when 24 >= 2 p + 2 (Figueroa 1995, doi 10.1145/221332.221334).
// - Chopped: toward zero, and stochastic rounding with r bits, look at the first p + r bits only, p + r <= 23 here.
// - Odd: a number rounded to odd to 24 bits rounds to p <= 22 bits as the exact one does (Boldo and Melquiond 2008,
//   doi 10.1109/TC.2007.70819), in every mode. AVX-512 rounds each instruction as told: of the results rounded down and
//   up, the odd one is it. Elsewhere it comes from double.
// plan_rounded() in rounded_plan.cc checks the conditions.
#include "rounded_draws.h"
#include "rounded_odd.h"
#include "rounded_orders.h"
#include "rounded_precise.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

constexpr uint32_t kNarrowSign = 0x80000000u, kNarrowExponent = 0x7f800000u;

inline uint32_t code(float v) {
    uint32_t c;
    memcpy(&c, &v, sizeof c);
    return c;
}

template <Mode M, bool Masked, bool Exact, bool Saturates, bool Half>
class NarrowLanes {
  public:
    typedef F V;
    typedef F A;
    typedef F B;
    typedef float Scalar;
    static constexpr int lanes = kLanes;
    static constexpr bool kPlain = Exact && M == Mode::nearest_even;
    static constexpr bool kStochastic = M == Mode::stochastic, kBlocks = true, kExactSums = false;
    // Modes that look at the first bits only; the others must know whether anything follows.
    static constexpr bool kChops = M == Mode::toward_zero || M == Mode::stochastic;

    NarrowLanes(const RoundedPlan& plan, const RoundedTile& tile) : draws(plan, tile), fuses_(!plan.rounds_product) {
        const Rounding& r = plan.sum;
        cut_ = 23 - r.significand_bits;
        half_less_one_ = all((1u << (cut_ - 1)) - 1);
        dropped_ = all((1u << cut_) - 1);
        keep_ = all(~((1u << cut_) - 1));
        low_ = all(r.lowest), high_ = all(r.highest);
        beyond_ = all(code(r.above) & ~kNarrowSign);
        least_ = all(code(r.smallest_normal));
        most_ = all(code(r.highest) & kNarrowExponent) + (1u << 23);
        to_magic_ = all((uint32_t(cut_) << 23) + (1u << 22));
        to_step_ = all(uint32_t(r.significand_bits) << 23);
        draw_shift_ = uint32_t(cut_ - r.random_bits);
        random_end_ = all(1u << r.random_bits);
        per_random_ = uint32_t(r.random_bits) << 23;
    }

    inline A first(const float* at) const { return all(*at); }
    inline B second(const float* at) const { return load(at); }

    inline V product(A a, B b, At at) const {
        if constexpr (kPlain) return rounded(a * b, kProducts, at);
        if constexpr (!kChops) return rounded(odd_product(a, b), kProducts, at);
        return rounded(chopped_product(a, b), kProducts, at);
    }

    inline V sum(V s, V p, At at) const {
        if constexpr (kPlain) return rounded(s + p, kSums, at);
        if constexpr (!kChops) return rounded(odd_total(s, p), kSums, at);
        return rounded(chopped_total(s, p), kSums, at);
    }

    inline V step(V s, A a, B b, At at) const {
        if (Exact || !fuses_) return sum(s, product(a, b, at), at);
        if constexpr (!kChops) return rounded(odd_fused(s, a, b), kSums, at);
        return rounded(chopped_fused(s, a, b), kSums, at);
    }

    inline V inner(V t, A a, B b, At at) const { return fuses_ ? nearest_fused(t, a, b) : t + product(a, b, at); }

    inline void finish(V v, float* at) const { store(at, v == v ? v : all(__builtin_nanf(""))); }

    Draws draws;

  private:
    inline F rounded(F x, int kind, At at) const {
        U random = {};
        if constexpr (kStochastic) random = draws.get(kind, at.row, at.column);
#if defined(__AVX512F__)
        if constexpr (Half)
            return (F)_mm512_cvtph_ps(_mm512_cvtps_ph((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#endif
        return Masked ? masked(x, random) : stepped(x, random);
    }

    // Formats with float32's exponents: the kept bits follow from an addition to the code and a mask, subnormal numbers
    // included, and a carry beyond the largest number makes infinity.
    inline F masked(F x, U random) const {
        U sum = bits(x);
        const U negative = (U)((I)sum >> 31);
        if constexpr (M == Mode::nearest_even) sum += half_less_one_ + ((sum >> cut_) & 1);
        if constexpr (M == Mode::nearest_away) sum += half_less_one_ + 1;
        if constexpr (M == Mode::up) sum += dropped_ & ~negative;
        if constexpr (M == Mode::down) sum += dropped_ & negative;
        if constexpr (M == Mode::to_odd) sum |= (sum & dropped_) + dropped_;
        if constexpr (M == Mode::stochastic) sum += random << draw_shift_;
        const F result = value(sum & keep_);
        // Exact chopping stays within the range.
        constexpr bool limits = Saturates && !(Exact && M == Mode::toward_zero);
        return limits ? larger(low_, smaller(high_, result)) : result;
    }

    // Other formats: adding and taking away 1.5 * 2^23 steps rounds to nearest even. The step follows from the number's
    // exponent, but is never below that of the smallest normal number.
    inline F stepped(F x, U random) const {
        // Rounding is monotone and the limits are in the set, so saturation may come first.
        if constexpr (Saturates) x = larger(low_, smaller(high_, x));
        const U sign = bits(x) & kNarrowSign;
        U exponent = bits(x) & kNarrowExponent;
        exponent = (I)exponent > (I)least_ ? exponent : least_;
        if constexpr (!Saturates) exponent = (I)exponent < (I)most_ ? exponent : most_;
        const F magic = value(exponent + to_magic_);
        F result;
        if constexpr (M == Mode::nearest_even) {
            result = (x + magic) - magic;
        } else {
            const F size = value(bits(x) ^ sign), step = value(exponent - to_step_);
            const F nearest = (size + magic) - magic;
            result = nearest > size ? nearest - step : nearest;
            const F rest = size - result;
            const I negative = (I)sign >> 31;
            I away = {};
            if constexpr (M == Mode::nearest_away) away = rest + rest >= step;
            if constexpr (M == Mode::up) away = (I)(rest > 0) & ~negative;
            if constexpr (M == Mode::down) away = (I)(rest > 0) & negative;
            // The number of steps is even where the code of 1.5 * 2^23 more is.
            if constexpr (M == Mode::to_odd) away = (I)(rest > 0) & (I)((bits(result + magic) & 1) == 0);
            if constexpr (M == Mode::stochastic)
                // rest + R 2^-r steps >= 1 step, exactly.
                away = rest >= __builtin_convertvector((I)(random_end_ - random), F) * value(bits(step) - per_random_);
            if constexpr (M != Mode::toward_zero) result = away ? result + step : result;
        }
        if constexpr (!Saturates) {
            const F size = value(bits(result) & ~kNarrowSign);
            result = size > high_ ? value(beyond_) : result;
        }
        return value(bits(result) | sign);
    }

    const bool fuses_;
    int cut_;
    uint32_t draw_shift_, per_random_;
    U half_less_one_, dropped_, keep_, beyond_, least_, most_, to_magic_, to_step_, random_end_;
    F low_, high_;
};

template <Mode M, bool Masked, bool Exact, bool Saturates, bool Half = false>
void run(const RoundedPlan& plan, const RoundedTile& tile) {
    NarrowLanes<M, Masked, Exact, Saturates, Half> lanes(plan, tile);
    Summation<NarrowLanes<M, Masked, Exact, Saturates, Half>>(lanes, plan, tile).run();
}

template <bool Masked, bool Saturates>
RoundedRun choose(const RoundedPlan& plan) {
    if (plan.sum.mode == Mode::toward_zero) {
        if (Masked && plan.exact) return run<Mode::toward_zero, Masked, Masked, Saturates>;
        return run<Mode::toward_zero, Masked, false, Saturates>;
    }
    if (plan.sum.mode == Mode::stochastic) return run<Mode::stochastic, Masked, false, Saturates>;
    if (plan.sum.mode == Mode::nearest_away) return run<Mode::nearest_away, Masked, false, Saturates>;
    // rounded_plan.cc lets these pass where they saturate: infinity would depend on the sign.
    if (plan.sum.mode == Mode::up) return run<Mode::up, Masked, false, true>;
    if (plan.sum.mode == Mode::down) return run<Mode::down, Masked, false, true>;
    if (plan.sum.mode == Mode::to_odd) return run<Mode::to_odd, Masked, false, true>;
    if (!Masked && !Saturates && plan.half)
        return plan.exact              ? run < Mode::nearest_even, Masked, true, Saturates,
               !Masked && !Saturates > : run < Mode::nearest_even, Masked, false, Saturates, !Masked && !Saturates > ;
    return plan.exact ? run<Mode::nearest_even, Masked, true, Saturates>
                      : run<Mode::nearest_even, Masked, false, Saturates>;
}

}  // namespace

void rounded_narrow(const RoundedPlan& plan, const RoundedTile& tile) {
    if (plan.precise) return rounded_precise(plan, tile);
    if (plan.saturates)
        (plan.masked ? choose<true, true> : choose<false, true>)(plan)(plan, tile);
    else
        (plan.masked ? choose<true, false> : choose<false, false>)(plan)(plan, tile);
}

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
