// Pooling, and the gathering half of transposed convolution: windows over NHWC images, vectors along the channels.
// Compiled once per instruction set. The plain reference is convsmith.kernels.layers.
#include "elementary.h"
#include "operator_levels.h"
#include "pooling.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

template <bool Largest>
inline F gathered(const Pooling& p, const float* window, const Taps& rows, const Taps& columns, int channel,
                  int count) {
    const long row_step = long(p.dilation_h) * p.w * p.x_pitch, step = long(p.dilation_w) * p.x_pitch;
    F sum = all(Largest ? -__builtin_inff() : 0.0f);
    // The maximum of the numbers and that of the magnitudes, where NaN lies above infinity: NaN wins, as in NumPy, and
    // neither waits long for the tap before.
    U magnitude = {};
    for (int r = rows.first; r < rows.last; ++r)
        for (int s = columns.first; s < columns.last; ++s) {
            const float* const at = window + r * row_step + s * step + channel;
            const F v = count >= kLanes ? load(at) : load_part(at, count);
            if constexpr (Largest) {
                const U size = bits(v) & all(0x7fffffffu);
                magnitude = magnitude > size ? magnitude : size;
                sum = larger(v, sum);
            } else {
                sum += v;
            }
        }
    return Largest ? blend((I)(magnitude > all(0x7f800000u)), value(all(0x7fc00000u)), sum) : sum;
}

template <bool Largest>
inline void pool_window(const Pooling& p, const float* window, const Taps& rows, const Taps& columns, float* y) {
    const F counted = all(float(rows.counted) * float(columns.counted));
    for (int channel = 0; channel < p.c; channel += kLanes) {
        const F sum = gathered<Largest>(p, window, rows, columns, channel, p.c - channel);
        const F result = Largest ? sum : sum / counted;
        if (p.c - channel >= kLanes)
            store(y + channel, result);
        else
            store_part(y + channel, result, p.c - channel);
    }
}

}  // namespace

void pool_rows(const Pooling& p, const float* x, float* y, long first, long last) {
    pool_windows(p, x, y, first, last, [&p](const float* window, const Taps& rows, const Taps& columns, float* to) {
        if (p.largest)
            pool_window<true>(p, window, rows, columns, to);
        else
            pool_window<false>(p, window, rows, columns, to);
    });
}

namespace {

// What one output pixel of one group gets from all taps.
inline F scattered(const Scatter& p, const float* image, int row, int column, int group, int channel, int count) {
    const int channels = p.k / p.groups, taps = p.r * p.s;
    const long pitch = long(p.k) * taps;
    F sum = {};
    for (int r = 0; r < p.r; ++r) {
        const int down = row + p.pad_top - r * p.dilation_h;
        if (down < 0 || down % p.stride_h || down / p.stride_h >= p.h) continue;
        for (int s = 0; s < p.s; ++s) {
            const int right = column + p.pad_left - s * p.dilation_w;
            if (right < 0 || right % p.stride_w || right / p.stride_w >= p.w) continue;
            const float* const at = image + (long(down / p.stride_h) * p.w + right / p.stride_w) * pitch +
                                    (long(group) * taps + r * p.s + s) * channels + channel;
            sum += count >= kLanes ? load(at) : load_part(at, count);
        }
    }
    return sum;
}

}  // namespace

void scatter_rows(const Scatter& p, const float* columns, const float* bias, float* y, long first, long last) {
    const int channels = p.k / p.groups;
    for (long item = first; item < last; ++item) {
        const float* const image = columns + item / p.out_h * p.h * p.w * p.k * p.r * p.s;
        for (int column = 0; column < p.out_w; ++column)
            for (int group = 0; group < p.groups; ++group)
                for (int channel = 0; channel < channels; channel += kLanes) {
                    const int k = group * channels + channel, count = channels - channel;
                    F sum = scattered(p, image, int(item % p.out_h), column, group, channel, count);
                    float* const to = y + (item * p.out_w + column) * p.y_pitch + k;
                    if (bias) sum += count >= kLanes ? load(bias + k) : load_part(bias + k, count);
                    if (count >= kLanes)
                        store(to, sum);
                    else
                        store_part(to, sum, count);
                }
    }
}

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
