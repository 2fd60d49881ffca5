// Rounded products and sums, one output at a time. Numbers are doubles between roundings: products of two floats are
// exact, and sums are rounded to odd first, after which any rounding to at most 24 bits is that of the exact sum
// (Boldo and Melquiond 2008, doi 10.1109/TC.2007.70819).
#include "rounded_reference.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "round_reference.h"
#include "rounded_random.h"

namespace convsmith {
namespace {

double odd_sum(double a, double b) {
    const double total = a + b, part = total - a;
    const double error = (a - (total - part)) + (b - part);
    uint64_t code;
    std::memcpy(&code, &total, sizeof code);
    if (!std::isfinite(total) || error == 0 || code & 1) return total;
    return std::nextafter(total, error > 0 ? HUGE_VAL : -HUGE_VAL);
}

uint64_t element(const RoundedTile& tile, int at) {
    return uint64_t(tile.elements_high[at]) << 32 | tile.elements_low[at];
}

// One output and its waiting sums.
class Output {
  public:
    Output(const RoundedPlan& plan, const RoundedTile& tile, int row, int column)
        : plan_(plan),
          element_(plan.sum.mode == Mode::stochastic ? element(tile, row * kTileColumns + column) : 0),
          slots_(tile.state + row * kTileColumns + column) {}

    double& slot(int index) { return slots_[index * kTileRows * kTileColumns]; }

    double product(double a, double b, uint64_t term) const {
        return plan_.rounds_product ? rounded(a * b, plan_.product, 0, term) : a * b;
    }

    double sum(double a, double b, uint64_t number) const {
        const Rounding& r = plan_.sum;
        // Whole steps need no rounding, and are reduced before the sum could drop the bits that remain.
        if (r.wrap_bits && std::fabs(b) >= std::ldexp(1.0, 48 + r.step_exponent))
            b = std::fmod(b, std::ldexp(1.0, r.wrap_bits + r.step_exponent));
        return rounded(odd_sum(a, b), r, 1, number);
    }

    void add(double product, uint64_t term) {
        switch (plan_.order) {
            case Order::sequential:
                slot(0) = sum(slot(0), product, term);
                break;
            case Order::pairwise:
                push(product, term);
                break;
            case Order::blocked:
                slot(1) = double(float(odd_sum(slot(1), product)));
                if ((term + 1) % plan_.block == 0) close_block(term);
                break;
            case Order::kahan: {
                const double y = sum(-slot(1), product, 4 * term), total = sum(slot(0), y, 4 * term + 1);
                slot(1) = sum(sum(total, -slot(0), 4 * term + 2), -y, 4 * term + 3);
                slot(0) = total;
            }
        }
    }

    double finish(uint64_t terms) {
        if (plan_.order == Order::blocked && terms % plan_.block) close_block(terms - 1);
        return plan_.order == Order::pairwise ? fold(terms) : slot(0);
    }

  private:
    double rounded(double exact, const Rounding& r, int kind, uint64_t number) const {
        const uint64_t drawn = r.mode == Mode::stochastic ? draw(plan_, element_, kind, number) : 0;
        return round_one(exact, r, drawn << (64 - r.random_bits), 0.0);
    }

    void close_block(uint64_t term) {
        slot(0) = sum(slot(0), slot(1), term / plan_.block);
        slot(1) = 0;
    }

    // Slot l holds the sum of 2^l terms where bit l of the number of terms is 1.
    void push(double value, uint64_t term) {
        uint64_t sums = term - uint64_t(__builtin_popcountll(term));
        int level = 0;
        for (; term >> level & 1; ++level) value = sum(slot(level), value, sums++);
        slot(level) = value;
    }

    double fold(uint64_t terms) {
        if (terms == 0) return 0;
        uint64_t sums = terms - uint64_t(__builtin_popcountll(terms));
        int level = __builtin_ctzll(terms);
        double total = slot(level);
        if (terms == 1) return sum(0, total, 0);
        while (++level < 64)
            if (terms >> level & 1) total = sum(slot(level), total, sums++);
        return total;
    }

    const RoundedPlan& plan_;
    const uint64_t element_;
    double* slots_;
};

}  // namespace

void rounded_reference(const RoundedPlan& plan, const RoundedTile& tile) {
    for (int row = 0; row < tile.rows; ++row)
        for (int column = 0; column < tile.columns; ++column) {
            Output output(plan, tile, row, column);
            const float* b = tile.b + column;
            for (size_t part = 0; part < tile.stretch_count; ++part)
                for (size_t i = 0; i < tile.stretches[part].count; ++i, b += kTileColumns) {
                    const size_t t = tile.stretches[part].first + i;
                    const double a = double(tile.a[t * kTileRows + row]);
                    output.add(output.product(a, double(*b), tile.first + t), tile.first + t);
                }
            if (!tile.last) continue;
            const double total = output.finish(tile.all);
            tile.result[row * kTileColumns + column] =
                std::isnan(total) ? std::numeric_limits<float>::quiet_NaN() : float(total);
        }
}

}  // namespace convsmith
