// Depthwise convolution of codes: every channel by itself, a vector of channels at a time, straight from the image, as
// convolution_depthwise.cc. Compiled once per instruction set.
#include "integer_lanes.h"
#include "integer_levels.h"
#include "parts.h"
#include "tiles.h"
#include "windows.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

constexpr int kPixels = 8;

struct Job {
    const Convolution& shape;
    const uint8_t* x;
    int zero;
    const int32_t* weights;
    const Finish finish;
    int band_rows;

    long plane() const { return round_up(shape.c, kLanes); }
};

template <bool Signed>
inline I load_codes(const uint8_t* at, int count) {
    const B bytes = load_bytes(at, count);
    return Signed ? widened((C)bytes) : widened(bytes);
}

// P neighbouring output pixels from `column` on; `inside` says that their windows lie within the image's width.
template <bool Signed, int P>
inline void convolve_pixels(const Job& job, long line, int column, int channel, int count, bool inside) {
    const Convolution& v = job.shape;
    const uint8_t* const image = job.x + line / v.out_h * v.h * v.w * v.x_pitch + channel;
    const int top = int(line % v.out_h) * v.stride_h - v.pad_top, left = column * v.stride_w - v.pad_left;
    const long step = long(v.stride_w) * v.x_pitch, plane = job.plane();
    const I zero = all_sums(job.zero);
    I sums[P];
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) sums[p] = load_sums(job.finish.bias + channel);
    for (int r = 0; r < v.r; ++r) {
        const int row = top + r * v.dilation_h;
        const int32_t* weight = job.weights + long(r) * v.s * plane + channel;
        for (int s = 0; s < v.s; ++s, weight += plane) {
            const I w = load_sums(weight);
            const int from = left + s * v.dilation_w;
            const bool empty = row < 0 || row >= v.h || (!inside && (from < 0 || from >= v.w));
            const uint8_t* const at = empty ? image : image + (long(row) * v.w + from) * v.x_pitch;
#pragma GCC unroll 8
            for (int p = 0; p < P; ++p)
                sums[p] = add_product(sums[p], empty ? zero : load_codes<Signed>(at + p * step, count), w);
        }
    }
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) finish(sums[p], job.finish, line * v.out_w + column + p, channel, count);
}

template <bool Signed>
void convolve_band(void* context, size_t part, int) {
    const Job& job = *static_cast<const Job*>(context);
    const Convolution& v = job.shape;
    const Inside inside(v);
    const long lines = long(v.n) * v.out_h, begin = long(part) * job.band_rows;
    for (long line = begin; line < begin + job.band_rows && line < lines; ++line)
        for (int column = 0; column < v.out_w;) {
            const bool whole = column >= inside.begin && column < inside.end;
            const bool many = whole && column + kPixels <= inside.end;
            for (int channel = 0; channel < v.c; channel += kLanes) {
                if (many)
                    convolve_pixels<Signed, kPixels>(job, line, column, channel, v.c - channel, true);
                else
                    convolve_pixels<Signed, 1>(job, line, column, channel, v.c - channel, whole);
            }
            column += many ? kPixels : 1;
        }
}

bool supports(const Convolution& v) { return v.groups == v.c && v.k == v.c && long(v.r) * v.s <= kMostProducts; }

size_t prepared_bytes(const Convolution& v) {
    return weight_sums_bytes(v) + size_t(long(v.r) * v.s * round_up(v.c, kLanes)) * sizeof(int32_t);
}

// The sum of each channel's weights, then a plane of all channels for each tap: the weight in the lower half of 32 bits
// and zero in the upper one, as add_product wants it.
void prepare(const Convolution& v, const int8_t* w_kcrs, void* prepared) {
    const long taps = long(v.r) * v.s, plane = round_up(v.c, kLanes);
    sum_weights(v, w_kcrs, static_cast<int32_t*>(prepared));
    int32_t* const planes = reinterpret_cast<int32_t*>(static_cast<char*>(prepared) + weight_sums_bytes(v));
    for (long tap = 0; tap < taps; ++tap)
        for (long c = 0; c < plane; ++c) planes[tap * plane + c] = c < v.c ? w_kcrs[c * taps + tap] & 0xffff : 0;
}

size_t workspace_bytes(const Convolution& v, int) { return finish_bytes(v); }

void run(const Convolution& v, const IntegerInput& input, const uint8_t* x, const void* prepared, void* y,
         const IntegerEpilogue& epilogue, void* workspace, int threads) {
    const long lines = long(v.n) * v.out_h, parts = 8L * threads;
    const int band_rows = int(lines <= parts ? 1 : (lines + parts - 1) / parts);
    const int32_t* const sums = static_cast<const int32_t*>(prepared);
    const char* const planes = static_cast<const char*>(prepared) + weight_sums_bytes(v);
    Job job{v,
            x,
            input.zero,
            reinterpret_cast<const int32_t*>(planes),
            prepare_finish(v, input.zero, sums, y, epilogue, workspace),
            band_rows};
    const auto convolve = input.is_signed ? convolve_band<true> : convolve_band<false>;
    parallel_parts(size_t((lines + band_rows - 1) / band_rows), threads, convolve, &job);
}

}  // namespace

const IntegerAlgorithm kIntegerDepthwise = {"int8_depthwise", supports, prepared_bytes, prepare, workspace_bytes, run};

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
