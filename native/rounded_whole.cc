// Rounded products and sums in 32-bit integer lanes, for fixed point of at most 16 bits that saturates, and factors
// that are 16-bit integers times a power of two each. Sums are exact. Compiled once per instruction set.
#include "rounded_draws.h"
#include "rounded_orders.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

template <bool Stochastic>
class WholeLanes {
  public:
    typedef I V;
    typedef I A;
    typedef I B;
    typedef int32_t Scalar;
    static constexpr int lanes = kLanes;
    static constexpr bool kStochastic = Stochastic, kBlocks = false, kExactSums = true;

    WholeLanes(const RoundedPlan& plan, const RoundedTile& tile) : draws(plan, tile), out_scale_(plan.out_scale) {
        const Rounding& r = plan.sum;
        cut_ = plan.cut;
        low_ = spread(int32_t(r.lowest / out_scale_)), high_ = spread(int32_t(r.highest / out_scale_));
        const int32_t full = (1 << cut_) - 1, half = full - (full >> 1);
        full_ = spread(full);
        // floor((p + start + (p < 0) if_negative + odd if_odd) / 2^cut) is each mode.
        int32_t start = 0, if_negative = 0, if_odd = 0;
        if (r.mode == Mode::nearest_even && cut_) start = half - 1, if_odd = 1;
        if (r.mode == Mode::nearest_away && cut_) start = half, if_negative = -1;
        if (r.mode == Mode::up) start = full;
        if (r.mode == Mode::toward_zero) if_negative = full;
        start_ = spread(start), if_negative_ = spread(if_negative), if_odd_ = spread(if_odd);
        // The top bits of a draw count where a product loses fewer bits than it has.
        draw_left_ = cut_ > r.random_bits ? cut_ - r.random_bits : 0;
        draw_right_ = cut_ < r.random_bits ? r.random_bits - cut_ : 0;
    }

    inline A first(const float* at) const {
        int32_t v;
        memcpy(&v, at, sizeof v);
        return spread(v);
    }

    inline B second(const float* at) const {
        I v;
        memcpy(&v, at, sizeof v);
        return v;
    }

    inline V product(A a, B b, At at) const {
        const I p = a * b, negative = p >> 31;
        I add;
        if constexpr (Stochastic) {
            // Random bits are added to the magnitude: for p < 0, ceil((p - R) / 2^cut).
            const U random = (draws.get(kProducts, at.row, at.column) >> draw_right_) << draw_left_;
            add = (I)random ^ (negative & full_);
        } else {
            add = start_ + (negative & if_negative_) + ((p >> cut_) & if_odd_);
        }
        return limited((p + add) >> cut_);
    }

    inline V sum(V s, V p, At) const { return limited(s + p); }

    inline V step(V s, A a, B b, At at) const { return sum(s, product(a, b, at), at); }

    inline void finish(V v, float* at) const { store(at, __builtin_convertvector(v, F) * out_scale_); }

    Draws draws;

  private:
    static inline I spread(int32_t v) { return v - I{}; }

    inline I limited(I v) const {
        v = v < high_ ? v : high_;
        return v > low_ ? v : low_;
    }

    const float out_scale_;
    int cut_, draw_left_, draw_right_;
    I low_, high_, full_, start_, if_negative_, if_odd_;
};

template <bool Stochastic>
void run(const RoundedPlan& plan, const RoundedTile& tile) {
    WholeLanes<Stochastic> lanes(plan, tile);
    Summation<WholeLanes<Stochastic>>(lanes, plan, tile).run();
}

}  // namespace

void rounded_whole(const RoundedPlan& plan, const RoundedTile& tile) {
    (plan.sum.mode == Mode::stochastic ? run<true> : run<false>)(plan, tile);
}

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
