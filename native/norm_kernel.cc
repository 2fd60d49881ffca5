// Sums, maxima, softmax and normalisation over axes. Compiled once per instruction set. The plain references are in
// convsmith.kernels: arrays.reduce, pointwise.softmax, layers.layer_norm and layers.local_response_norm.
#include "elementary.h"
#include "operator_levels.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

// Sums of this many elements are added to the total one by one, so that errors grow with a 64th of the count.
constexpr long kRun = 64;

inline F part(const float* at, long count) { return count >= kLanes ? load(at) : load_part(at, int(count)); }

inline void put_part(float* at, F v, long count) {
    if (count >= kLanes)
        store(at, v);
    else
        store_part(at, v, int(count));
}

struct Sum {
    static F start() { return F{}; }
    static F join(F a, F b) { return a + b; }
};

struct Max {
    static F start() { return all(-__builtin_inff()); }
    static F join(F a, F b) { return blend((b > a) | (b != b), b, a); }
};

struct Min {
    static F start() { return all(__builtin_inff()); }
    static F join(F a, F b) { return blend((b < a) | (b != b), b, a); }
};

template <class Fold>
inline F fold_column(const float* x, long step, long size, long count) {
    F total = Fold::start();
    for (long from = 0; from < size; from += kRun) {
        const long to = from + kRun < size ? from + kRun : size;
        F run = Fold::start();
        for (long i = from; i < to; ++i) run = Fold::join(run, part(x + i * step, count));
        total = Fold::join(total, run);
    }
    return total;
}

// Adjacent elements; those that fill no vector come last, one at a time.
template <class Fold>
inline float fold_row(const float* x, long size) {
    const long whole = size / kLanes;
    const F lanes = whole ? fold_column<Fold>(x, kLanes, whole, kLanes) : Fold::start();
    F total = Fold::start();
    for (int lane = 0; lane < kLanes; ++lane) total = Fold::join(total, all(lanes[lane]));
    for (long i = whole * kLanes; i < size; ++i) total = Fold::join(total, all(x[i]));
    return total[0];
}

template <class Fold>
void reduce_items(const Reduction& p, const float* x, float* y, long first, long last) {
    const long strips = (p.inner + kStrip - 1) / kStrip;
    for (long item = first; item < last; ++item) {
        const long outer = item / strips, from = item % strips * kStrip;
        const float* const at = x + outer * p.x_outer;
        float* const to = y + outer * p.y_outer;
        if (p.inner == 1 && p.x_middle == 1) {
            *to = fold_row<Fold>(at, p.middle) * p.factor;
            continue;
        }
        for (long i = from; i < from + kStrip && i < p.inner; i += kLanes)
            put_part(to + i, fold_column<Fold>(at + i, p.x_middle, p.middle, p.inner - i) * all(p.factor), p.inner - i);
    }
}

}  // namespace

void reduce_strips(const Reduction& p, const float* x, float* y, long first, long last) {
    if (Fold(p.operation) == Fold::sum)
        reduce_items<Sum>(p, x, y, first, last);
    else if (Fold(p.operation) == Fold::max)
        reduce_items<Max>(p, x, y, first, last);
    else
        reduce_items<Min>(p, x, y, first, last);
}

namespace {

// Adjacent elements: powers are written first, then divided by their sum.
void softmax_row(const Softmax& p, const float* x, float* y) {
    const F peak = all(fold_row<Max>(x, p.size));
    if (p.logarithm) {
        float sum = 0;
        for (long i = 0; i < p.size; i += kLanes) {
            const F powers = exponential(part(x + i, p.size - i) - peak);
            for (int lane = 0; lane < kLanes && i + lane < p.size; ++lane) sum += powers[lane];
        }
        const F shift = peak + all(scalar_log(sum));
        for (long i = 0; i < p.size; i += kLanes) put_part(y + i, part(x + i, p.size - i) - shift, p.size - i);
        return;
    }
    for (long i = 0; i < p.size; i += kLanes) put_part(y + i, exponential(part(x + i, p.size - i) - peak), p.size - i);
    const F sum = all(fold_row<Sum>(y, p.size));
    for (long i = 0; i < p.size; i += kLanes) put_part(y + i, part(y + i, p.size - i) / sum, p.size - i);
}

void softmax_column(const Softmax& p, const float* x, float* y, long count) {
    const F peak = fold_column<Max>(x, p.x_step, p.size, count);
    F sum = {};
    for (long i = 0; i < p.size; ++i) {
        const F power = exponential(part(x + i * p.x_step, count) - peak);
        sum += power;
        if (!p.logarithm) put_part(y + i * p.y_step, power, count);
    }
    const F shift = peak + lane_by_lane<scalar_log>(sum);
    for (long i = 0; i < p.size; ++i) {
        float* const to = y + i * p.y_step;
        put_part(to, p.logarithm ? part(x + i * p.x_step, count) - shift : part(to, count) / sum, count);
    }
}

}  // namespace

void softmax_strips(const Softmax& p, const float* x, float* y, long first, long last) {
    const long strips = (p.inner + kStrip - 1) / kStrip;
    for (long item = first; item < last; ++item) {
        const long outer = item / strips, from = item % strips * kStrip;
        const float* const at = x + outer * p.x_outer;
        float* const to = y + outer * p.y_outer;
        if (p.inner == 1 && p.x_step == 1 && p.y_step == 1)
            softmax_row(p, at, to);
        else
            for (long i = from; i < from + kStrip && i < p.inner; i += kLanes)
                softmax_column(p, at + i, to + i, p.inner - i);
    }
}

void normalise_rows(const RowNorm& p, const float* x, const float* scale, const float* shift, float* y, long first,
                    long last) {
    for (long row = first; row < last; ++row) {
        const float* const at = x + row * p.x_pitch;
        float* const to = y + row * p.y_pitch;
        const F mean = all(fold_row<Sum>(at, p.size) / float(p.size));
        for (long i = 0; i < p.size; i += kLanes) {
            const F away = part(at + i, p.size - i) - mean;
            put_part(to + i, away * away, p.size - i);
        }
        const float variance = fold_row<Sum>(to, p.size) / float(p.size);
        const F factor = all(1.0f / scalar_sqrt(variance + p.epsilon));
        for (long i = 0; i < p.size; i += kLanes) {
            F v = (part(at + i, p.size - i) - mean) * factor * part(scale + i, p.size - i);
            if (shift) v += part(shift + i, p.size - i);
            put_part(to + i, v, p.size - i);
        }
    }
}

namespace {

// Lanes from `channel` on of a pixel, zero outside of it.
inline F around(const float* pixel, long channel, long channels) {
    if (channel >= 0 && channel + kLanes <= channels) return load(pixel + channel);
    F v = {};
    for (int lane = 0; lane < kLanes; ++lane)
        if (channel + lane >= 0 && channel + lane < channels) v[lane] = pixel[channel + lane];
    return v;
}

inline F raised(F v, float exponent) {
    if (exponent == 0.75f) {
        const F half = root(v);
        return half * root(half);
    }
    F result;
    for (int lane = 0; lane < kLanes; ++lane) result[lane] = __builtin_powf(v[lane], exponent);
    return result;
}

}  // namespace

void normalise_responses(const ResponseNorm& p, const float* x, float* y, long first, long last) {
    const long before = (p.size - 1) / 2;
    for (long pixel = first; pixel < last; ++pixel) {
        const float* const at = x + pixel * p.x_pitch;
        for (long channel = 0; channel < p.c; channel += kLanes) {
            F squares = {};
            for (long near = channel - before; near < channel - before + p.size; ++near) {
                const F v = around(at, near, p.c);
                squares += v * v;
            }
            const F divisor = raised(all(p.bias) + all(p.alpha / float(p.size)) * squares, p.beta);
            put_part(y + pixel * p.y_pitch + channel, part(at + channel, p.c - channel) / divisor, p.c - channel);
        }
    }
}

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
