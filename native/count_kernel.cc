// Rounding that counts what overflowed, underflowed or was no number. Compiled once per instruction set.
//
// Which numbers overflow cannot be told from rounded values: a number may reach the largest value with or without going
// beyond it. So the kernel of round_kernel.cc rounds without a range first, in chunks that stay in the first-level
// cache, the counts are taken there, and then the range is imposed.
#include "factors.h"
#include "lanes.h"
#include "round.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {

void round(const float* x, float* y, size_t begin, size_t end, const Rounding& rounding, const Scale& scale,
           const Key& key);

namespace {

constexpr size_t kChunk = 1024;
static_assert(kChunk % kBlock == 0, "chunks are whole blocks");
constexpr uint32_t kSignBit = 0x80000000u, kInfinity = 0x7f800000u, kNaN = 0x7fc00000u;

float float_of(uint32_t code) {
    float v;
    memcpy(&v, &code, sizeof v);
    return v;
}

uint32_t code_of(float v) {
    uint32_t code;
    memcpy(&code, &v, sizeof code);
    return code;
}

// The rounding without a range. In floats, what went beyond it becomes infinite and what was infinite NaN; in fixed
// point, everything finite stays so.
Rounding without_range(Rounding r) {
    r.below = float_of(kInfinity | kSignBit);
    r.above = float_of(kInfinity);
    r.minus_infinity = r.plus_infinity = float_of(kNaN);
    if (!r.is_float) {
        r.lowest = r.minus_infinity = r.below;
        r.highest = r.plus_infinity = r.above;
    }
    r.wrap_bits = 0;
    return r;
}

struct Tally {
    I overflows = {}, underflows = {}, infinities = {}, nans = {};  // one less for each

    static uint64_t sum(I lanes) {
        uint64_t total = 0;
        for (int lane = 0; lane < kLanes; ++lane) total += uint64_t(-int64_t(lanes[lane]));
        return total;
    }
    void add_to(Counts& counts) const {
        counts.overflows += sum(overflows);
        counts.underflows += sum(underflows);
        counts.infinities += sum(infinities);
        counts.nans += sum(nans);
    }
};

// Values beyond the range, as bits: of floats without the sign, which they take from the number.
struct Range {
    F lowest, highest;
    U below, above, minus_infinity, plus_infinity, sign;

    explicit Range(const Rounding& r) {
        const uint32_t kept = r.is_float ? ~kSignBit : ~0u;
        lowest = all(r.lowest);
        highest = all(r.highest);
        below = all(code_of(r.below) & kept);
        above = all(code_of(r.above) & kept);
        minus_infinity = all(code_of(r.minus_infinity) & kept);
        plus_infinity = all(code_of(r.plus_infinity) & kept);
        sign = all(r.is_float ? kSignBit : 0u);
    }
};

// Counts what became of `in`, and imposes the range on `rounded` unless it wraps.
template <bool Float>
void look(const float* in, float* rounded, size_t count, bool wraps, const Range& k, Tally& tally) {
    for (size_t i = 0; i < count; i += kLanes) {
        const F x = load(in + i), r = load(rounded + i);
        const U size = bits(x) & ~all(kSignBit), rounded_size = bits(r) & ~all(kSignBit);
        const I nan = (I)size > (I)all(kInfinity), infinite = size == all(kInfinity);
        const I was_infinite = ~nan & (Float ? (I)rounded_size > (I)all(kInfinity) : rounded_size == all(kInfinity));
        const I low = Float ? (rounded_size == all(kInfinity)) & ((I)bits(r) < 0) : (r < k.lowest) & ~was_infinite;
        const I high = Float ? (rounded_size == all(kInfinity)) & ((I)bits(r) >= 0) : (r > k.highest) & ~was_infinite;
        const I beyond = (low | high | was_infinite) & ~nan & ~infinite;
        tally.nans += nan;
        tally.infinities += infinite;
        tally.overflows += beyond;
        tally.underflows += (size != 0) & (rounded_size == 0) & ~beyond;
        if (wraps) continue;
        U result = bits(r);
        const U sign = bits(x) & k.sign;
        result = low ? k.below | sign : result;
        result = high ? k.above | sign : result;
        result = was_infinite ? ((I)bits(x) < 0 ? k.minus_infinity : k.plus_infinity) | sign : result;
        store(rounded + i, value(result));
    }
}

// Divides by the factors, or multiplies.
template <bool Divide>
void scale_by(Factors& factors, const float* x, float* y, size_t begin, size_t count) {
    float factor[kBlock];
    for (size_t i = 0; i < count; i += kBlock) {
        const size_t n = count - i < kBlock ? count - i : kBlock;
        F of_element[Factors::kVectors], zero[Factors::kVectors];
        factors.fill(begin + i, n, of_element, zero);
        memcpy(factor, of_element, sizeof factor);
        for (size_t j = 0; j < n; ++j) y[i + j] = Divide ? x[i + j] / factor[j] : x[i + j] * factor[j];
    }
}

}  // namespace

void count(const float* x, float* y, size_t begin, size_t end, const Rounding& rounding, const Scale& scale,
           const Key& key, Counts& counts) {
    const Rounding unbounded = without_range(rounding);
    Rounding wrapping = rounding;
    wrapping.mode = Mode::toward_zero;  // what is rounded already is only reduced
    const Scale unscaled{nullptr, 0, 1, nullptr, 0, 0};
    const bool scaled = scale.factors != nullptr, wraps = rounding.wrap_bits != 0;
    const Range range(rounding);
    Tally tally;
    Factors factors(scale);
    float in[kChunk], rounded[kChunk];
    for (size_t i = begin; i < end; i += kChunk) {
        const size_t size = end - i < kChunk ? end - i : kChunk;
        memcpy(in, x + i, size * sizeof(float));  // y may be x
        for (size_t j = size; j % kLanes != 0; ++j) in[j] = rounded[j] = 0;
        if (scaled) scale_by<true>(factors, in, y + i, i, size);
        round(scaled ? y : x, y, i, i + size, unbounded, unscaled, key);
        memcpy(rounded, y + i, size * sizeof(float));
        (rounding.is_float ? look<true> : look<false>)(in, rounded, size, wraps, range, tally);
        memcpy(y + i, rounded, size * sizeof(float));
        if (wraps) round(y, y, i, i + size, wrapping, unscaled, key);
        if (scaled) scale_by<false>(factors, y + i, y + i, i, size);
    }
    tally.add_to(counts);
}

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
