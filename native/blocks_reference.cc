#include "blocks_reference.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "round_reference.h"

namespace convsmith {
namespace {

double at(const Numbers& x, size_t index) {
    return x.wide ? static_cast<const double*>(x.data)[index] : double(static_cast<const float*>(x.data)[index]);
}

int shared_exponent(double largest, const Blocks& b) {
    if (largest == 0) return b.low;
    int exponent = std::ilogb(largest) - b.largest;
    if (b.fit && std::ldexp(largest, -std::ilogb(largest)) > std::ldexp(b.most, -std::ilogb(b.most))) ++exponent;
    return std::min(std::max(exponent, b.low), b.high);
}

}  // namespace

void round_blocks_reference(Numbers x, float* y, size_t begin, size_t end, const Blocks& b, const Rounding&,
                            const WideRounding& r, const Key& key) {
    const size_t count = (b.length + b.size - 1) / b.size;
    for (size_t u = begin; u < end; ++u) {
        const size_t column = u % b.inner, block = u / b.inner % count, outer = u / b.inner / count;
        const size_t first = (outer * b.length + block * b.size) * b.inner + column;
        const size_t members = std::min(b.size, b.length - block * b.size);
        double largest = 0;
        bool bad = false;
        for (size_t i = 0; i < members; ++i) {
            const double size = std::fabs(at(x, first + i * b.inner));
            bad |= !std::isfinite(size);
            largest = std::max(largest, size);
        }
        const int exponent = bad ? 0 : shared_exponent(largest, b);
        for (size_t i = 0; i < members; ++i) {
            const size_t index = first + i * b.inner;
            const double number = at(x, index);
            double quotient = std::ldexp(number, -exponent);
            // What is far below every step rounds like the smallest number.
            if (number != 0 && std::fabs(quotient) < 0x1p-900) quotient = std::copysign(0x1p-900, number);
            const uint64_t word = r.mode == Mode::stochastic ? random_word(index, key, false) : 0;
            y[index] = bad ? std::numeric_limits<float>::quiet_NaN()
                           : float(std::ldexp(round_one(quotient, r, word, 0.0), exponent));
        }
    }
}

}  // namespace convsmith
