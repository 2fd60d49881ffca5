// Rounded products and sums in double lanes: every format, mode and input, exactly; rounded_reference.cc says the same
// plainly. Compiled once per instruction set.
//
// A number is rounded to a multiple of its step by adding and taking away 1.5 * 2^52 steps, which is rounding to
// nearest even; the other modes correct its result. The step of a float follows from its exponent, but is never below
// that of the smallest normal number.
#include "rounded_draws.h"
#include "rounded_lanes.h"
#include "rounded_orders.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

constexpr uint64_t kWideSign = uint64_t(1) << 63, kWideExponent = uint64_t(0x7ff) << 52;

inline double power(int exponent) {
    const uint64_t code = uint64_t(exponent + 1023) << 52;
    double v;
    memcpy(&v, &code, sizeof v);
    return v;
}

// The constants of one rounding, spread over lanes.
struct Wide {
    const Rounding r;
    D normal, step, lowest, highest, below, above, minus_infinity, plus_infinity, per_random;
    D period, per_period, whole_steps;
    W significand, to_magic, to_whole;
    bool powers_of_two;  // no fraction bits: a code's parity is that of its exponent

    explicit Wide(const Rounding& rounding) : r(rounding) {
        normal = all(r.is_float ? double(r.smallest_normal) : __builtin_inf());
        step = all(power(r.step_exponent));
        lowest = all(double(r.lowest)), highest = all(double(r.highest));
        below = all(double(r.below)), above = all(double(r.above));
        minus_infinity = all(double(r.minus_infinity)), plus_infinity = all(double(r.plus_infinity));
        per_random = all(power(-r.random_bits));
        period = all(power(r.wrap_bits + r.step_exponent)), per_period = all(power(-r.wrap_bits - r.step_exponent));
        whole_steps = all(power(48 + r.step_exponent));
        significand = all(uint64_t(r.significand_bits) << 52);
        to_magic = all((uint64_t(52) << 52) + (uint64_t(1) << 51));
        to_whole = all(uint64_t(51) << 52);
        powers_of_two = r.is_float && r.significand_bits == 0;
    }
};

inline D nearest_whole(D v) {
    const D magic = all(0x1.8p52), size = (D)((W)v & ~kWideSign);
    return size < all(0x1p51) ? (v + magic) - magic : v;
}

inline D wrapped(D v, const Wide& k) {
    D offset = v - nearest_whole(v * k.per_period) * k.period;
    offset = offset < k.lowest ? offset + k.period : offset;
    return offset > k.highest ? offset - k.period : offset;
}

// `random` holds integers of random_bits bits.
inline D rounded(D x, D random, const Wide& k) {
    const W sign = (W)x & kWideSign;
    const D size = (D)((W)x ^ sign);
    const L normal = (L)(size >= k.normal);
    const W exponent = (W)size & kWideExponent;
    const D step = normal ? (D)(exponent - k.significand) : k.step;
    const D magic = (D)((W)step + k.to_magic);
    // From 2^51 steps up only whole steps come here, or results that saturate.
    const D nearest = size < (D)((W)step + k.to_whole) ? (size + magic) - magic : size;
    D result = nearest;
    if (k.r.mode != Mode::nearest_even || k.powers_of_two) {
        const D floor = nearest > size ? nearest - step : nearest;
        const D rest = size - floor, next = floor + step;
        L odd = (L)((W)(floor + magic) & 1) != 0;
        if (k.powers_of_two) odd ^= normal & (L)(((exponent - ((W)k.normal & kWideExponent)) >> 52 & 1) != 0);
        const L negative = (L)sign >> 63;
        L away = {};
        switch (k.r.mode) {
            case Mode::toward_zero:
                break;
            case Mode::nearest_even:
                away = (L)(rest + rest > step) | ((L)(rest + rest == step) & odd);
                break;
            case Mode::nearest_away:
                away = (L)(rest + rest >= step);
                break;
            case Mode::up:
                away = (L)(rest > 0) & ~negative;
                break;
            case Mode::down:
                away = (L)(rest > 0) & negative;
                break;
            case Mode::to_odd:
                away = (L)(rest > 0) & ~odd;
                break;
            case Mode::stochastic:
                away = (L)(rest >= step - random * k.per_random * step);
                break;
        }
        result = away ? next : floor;
    }
    result = (D)((W)result | sign);
    if (k.r.wrap_bits) {
        result = wrapped(result, k);
    } else {
        result = result > k.highest ? k.above : result;
        result = result < k.lowest ? k.below : result;
    }
    const L infinite = (L)(size == all(__builtin_inf()));
    if (k.r.wrap_bits)
        result = infinite ? all(__builtin_nan("")) : result;
    else
        result = infinite ? (x > 0 ? k.plus_infinity : k.minus_infinity) : result;
    result = k.r.negative_zero ? result : result + D{};
    return x == x ? result : x;
}

template <bool Stochastic>
class WideLanes {
  public:
    typedef D V;
    typedef D A;
    typedef D B;
    typedef double Scalar;
    static constexpr int lanes = kHalf;
    static constexpr bool kStochastic = Stochastic, kBlocks = true, kExactSums = false;

    WideLanes(const RoundedPlan& plan, const RoundedTile& tile)
        : draws(plan, tile), sum_(plan.sum), product_(plan.product), rounds_product_(plan.rounds_product) {}

    inline A first(const float* at) const { return all(double(*at)); }
    inline B second(const float* at) const { return widened(at); }

    inline V product(A a, B b, At at) const {
        return rounds_product_ ? rounded(a * b, random(kProducts, at), product_) : a * b;
    }

    inline V sum(V s, V p, At at) const {
        if (sum_.r.wrap_bits) {
            // Whole steps need no rounding, and are reduced before the sum could drop the bits that remain.
            const D size = (D)((W)p & ~kWideSign);
            p = size >= sum_.whole_steps ? p - nearest_whole(p * sum_.per_period) * sum_.period : p;
        }
        return rounded(odd_sum(s, p), random(kSums, at), sum_);
    }

    inline V step(V s, A a, B b, At at) const { return sum(s, product(a, b, at), at); }

    inline V inner(V t, A a, B b, At at) const {
        const HalfF nearest = __builtin_convertvector(odd_sum(t, product(a, b, at)), HalfF);
        return __builtin_convertvector(nearest, D);
    }

    inline void finish(V v, float* at) const {
        const HalfF narrow = __builtin_convertvector(v == v ? v : all(__builtin_nan("")), HalfF);
        memcpy(at, &narrow, sizeof narrow);
    }

    Draws draws;

  private:
    inline D random(int kind, At at) const {
        if constexpr (!Stochastic) return D{};
        const U drawn = draws.get(kind, at.row, at.column);
        HalfU half;
        memcpy(&half, &drawn, sizeof half);
        return __builtin_convertvector(half, D);
    }

    const Wide sum_, product_;
    const bool rounds_product_;
};

template <bool Stochastic>
void run(const RoundedPlan& plan, const RoundedTile& tile) {
    WideLanes<Stochastic> lanes(plan, tile);
    Summation<WideLanes<Stochastic>>(lanes, plan, tile).run();
}

}  // namespace

void rounded_wide(const RoundedPlan& plan, const RoundedTile& tile) {
    (plan.sum.mode == Mode::stochastic ? run<true> : run<false>)(plan, tile);
}

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
