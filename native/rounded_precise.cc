// Rounded products and sums to nearest even in float lanes, for formats of 23 or 24 significand bits and finite
// factors: too many for a number rounded to odd to 24 bits. Compiled once per instruction set.
//
// - 24 bits: rounding to float32 is it.
// - 23 bits: of the two float32 numbers around an inexact result the one with the even code has 23 bits and is the
//   nearer of those that have; the other is halfway between two of them. An exact result is rounded as a code.
// - Below the smallest normal number, formats with fewer exponents than float32 keep fewer bits: there the odd number
//   will do (Boldo and Melquiond 2008, doi 10.1109/TC.2007.70819), and adding and taking away 1.5 * 2^23 steps rounds
//   it.
#include "rounded_precise.h"

#include "rounded_draws.h"
#include "rounded_odd.h"
#include "rounded_orders.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

constexpr uint32_t kPreciseSign = 0x80000000u;

// Masked: the format has float32's exponents, so that it loses the same bit everywhere.
template <int Bits, bool Masked, bool Saturates>
class PreciseLanes {
  public:
    typedef F V;
    typedef F A;
    typedef F B;
    typedef float Scalar;
    static constexpr int lanes = kLanes;
    static constexpr bool kStochastic = false, kBlocks = true, kExactSums = false;
    static constexpr bool kPlain = Bits == 24 && Masked;

    PreciseLanes(const RoundedPlan& plan, const RoundedTile& tile) : draws(plan, tile), fuses_(!plan.rounds_product) {
        const Rounding& r = plan.sum;
        low_ = all(r.lowest), high_ = all(r.highest), beyond_ = all(r.above), least_ = all(r.smallest_normal);
        half_least_ = all(r.smallest_normal * 0.5f);
        const uint32_t exponent = uint32_t(r.step_exponent + 23 + 127);
        magic_ = value(all(exponent << 23));
    }

    inline A first(const float* at) const { return all(*at); }
    inline B second(const float* at) const { return load(at); }

    inline V product(A a, B b, At) const {
        if constexpr (kPlain) return limited(a * b);
        return rounded(around_product(a, b), a * b);
    }

    inline V sum(V s, V p, At) const {
        if constexpr (kPlain) return limited(s + p);
        return rounded(around_total(s, p), s + p);
    }

    inline V step(V s, A a, B b, At at) const {
        if (!fuses_) return sum(s, product(a, b, at), at);
        if constexpr (kPlain) return limited(nearest_fused(s, a, b));
        return rounded(around_fused(s, a, b), Bits == 24 ? nearest_fused(s, a, b) : F{});
    }

    inline V inner(V t, A a, B b, At at) const { return fuses_ ? nearest_fused(t, a, b) : t + product(a, b, at); }

    inline void finish(V v, float* at) const { store(at, v == v ? v : all(__builtin_nanf(""))); }

    Draws draws;

  private:
    // `nearest` is read where the format has 24 bits.
    inline F rounded(Around x, F nearest) const {
        const U code = bits(x.even);
        F result = Bits == 24 ? nearest : value((code + ((code >> 1) & 1)) & ~1u);
        if constexpr (!Masked) {
            const U sign = bits(x.odd) & kPreciseSign;
            const F size = value(bits(x.odd) ^ sign);
            // Of 24 bits the first binade below loses one, and as with 23 bits the even number is right.
            const F even = value(bits(x.even) & ~kPreciseSign);
            const F seen = Bits == 24 ? (size < half_least_ ? size : even) : size;
            const F small = value(bits((seen + magic_) - magic_) | sign);
            result = size < least_ ? small : result;
        }
        return limited(result);
    }

    inline F limited(F v) const {
        if constexpr (Saturates) return larger(low_, smaller(high_, v));
        if constexpr (Masked) return v;
        const U sign = bits(v) & kPreciseSign;
        return value(bits(v) ^ sign) > high_ ? value(bits(beyond_) | sign) : v;
    }

    const bool fuses_;
    F low_, high_, beyond_, least_, half_least_, magic_;
};

template <int Bits, bool Masked, bool Saturates>
void run(const RoundedPlan& plan, const RoundedTile& tile) {
    PreciseLanes<Bits, Masked, Saturates> lanes(plan, tile);
    Summation<PreciseLanes<Bits, Masked, Saturates>>(lanes, plan, tile).run();
}

template <int Bits>
RoundedRun choose(const RoundedPlan& plan) {
    if (plan.masked) return plan.saturates ? run<Bits, true, true> : run<Bits, true, false>;
    return plan.saturates ? run<Bits, false, true> : run<Bits, false, false>;
}

}  // namespace

void rounded_precise(const RoundedPlan& plan, const RoundedTile& tile) {
    (plan.sum.significand_bits == 23 ? choose<24> : choose<23>)(plan)(plan, tile);
}

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
