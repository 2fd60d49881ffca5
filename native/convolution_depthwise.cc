// Depthwise convolution: every channel by itself, a vector of channels at a time, straight from the image.
// Compiled once per instruction set.
//
// Eight neighbouring pixels share each weight, so that the loads of the image alone bound the speed.
#include "convolution_levels.h"
#include "finish.h"
#include "gemm.h"
#include "parts.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

constexpr int kPixels = 8;

struct Job {
    const Convolution& shape;
    const float* x;
    const float* weights;
    float* y;
    const Epilogue& epilogue;
    int band_rows, bands;
};

// Output rows of one part: about 8 parts for each thread, so that uneven cores share the work.
int rows_of_band(const Convolution& v, int threads) {
    const long rows = long(v.n) * v.out_h, parts = 8L * threads;
    return int(rows <= parts ? 1 : (rows + parts - 1) / parts);
}

// The output columns whose windows lie within the image's width.
struct Inside {
    int begin, end;

    explicit Inside(const Convolution& v) {
        const int last = v.w - 1 - (v.s - 1) * v.dilation_w + v.pad_left;
        begin = (v.pad_left + v.stride_w - 1) / v.stride_w;
        end = last < 0 ? 0 : last / v.stride_w + 1;
        if (end > v.out_w) end = v.out_w;
        if (begin > end) begin = end;
    }
};

// What one row of outputs needs: its taps' rows from `first_row` to `end_row`, and where they begin.
struct Row {
    const float* image;
    long pixel;
    int top, first, end;

    Row(const Convolution& v, const float* x, long row) {
        image = x + row / v.out_h * v.h * v.w * v.x_pitch;
        pixel = row * v.out_w;
        top = int(row % v.out_h) * v.stride_h - v.pad_top;
        first = top >= 0 ? 0 : (-top + v.dilation_h - 1) / v.dilation_h;
        end = v.r;
        while (end > first && top + (end - 1) * v.dilation_h >= v.h) --end;
    }
    const float* at(const Convolution& v, int r, long column) const {
        return image + (long(top + r * v.dilation_h) * v.w + column) * v.x_pitch;
    }
};

template <int P>
inline void convolve_pixels(const Job& job, const Row& row, int column, int channel, int count) {
    const Convolution& v = job.shape;
    const long step = long(v.stride_w) * v.x_pitch, plane = round_up(v.c, kLanes);
    const int left = column * v.stride_w - v.pad_left;
    F sums[P] = {};
    for (int r = row.first; r < row.end; ++r) {
        const float* from = row.at(v, r, left) + channel;
        const float* weight = job.weights + long(r) * v.s * plane + channel;
        for (int s = 0; s < v.s; ++s, from += long(v.dilation_w) * v.x_pitch, weight += plane) {
            const F w = load(weight);
#pragma GCC unroll 8
            for (int p = 0; p < P; ++p)
                sums[p] += w * (count >= kLanes ? load(from + p * step) : load_part(from + p * step, count));
        }
    }
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) finish(sums[p], job.epilogue, job.y, v.y_pitch, row.pixel + column + p, channel, count);
}

void convolve_edge(const Job& job, const Row& row, int column, int channel, int count) {
    const Convolution& v = job.shape;
    const long plane = round_up(v.c, kLanes);
    const int left = column * v.stride_w - v.pad_left;
    F sum = {};
    for (int r = row.first; r < row.end; ++r)
        for (int s = 0; s < v.s; ++s) {
            const int from = left + s * v.dilation_w;
            if (from < 0 || from >= v.w) continue;
            const float* at = row.at(v, r, from) + channel;
            sum += load(job.weights + (long(r) * v.s + s) * plane + channel) *
                   (count >= kLanes ? load(at) : load_part(at, count));
        }
    finish(sum, job.epilogue, job.y, v.y_pitch, row.pixel + column, channel, count);
}

void convolve_row(const Job& job, const Row& row, const Inside& inside) {
    const int channels = job.shape.c;
    int column = 0;
    while (column < job.shape.out_w) {
        const bool edge = column < inside.begin || column >= inside.end;
        const int pixels = !edge && column + kPixels <= inside.end ? kPixels : 1;
        for (int channel = 0; channel < channels; channel += kLanes) {
            const int count = channels - channel;
            if (edge)
                convolve_edge(job, row, column, channel, count);
            else if (pixels == kPixels)
                convolve_pixels<kPixels>(job, row, column, channel, count);
            else
                convolve_pixels<1>(job, row, column, channel, count);
        }
        column += pixels;
    }
}

void convolve_band(void* context, size_t part, int) {
    const Job& job = *static_cast<const Job*>(context);
    const Inside inside(job.shape);
    const long rows = long(job.shape.n) * job.shape.out_h, begin = long(part) * job.band_rows;
    for (long row = begin; row < begin + job.band_rows && row < rows; ++row)
        convolve_row(job, Row(job.shape, job.x, row), inside);
}

bool supports(const Convolution& v) { return v.groups == v.c && v.k == v.c; }

size_t prepared_floats(const Convolution& v) { return size_t(long(v.r) * v.s * round_up(v.c, kLanes)); }

void prepare(const Convolution& v, const float* w_kcrs, float* prepared) {
    const long taps = long(v.r) * v.s, plane = round_up(v.c, kLanes);
    for (long tap = 0; tap < taps; ++tap)
        for (long c = 0; c < plane; ++c) prepared[tap * plane + c] = c < v.c ? w_kcrs[c * taps + tap] : 0.0f;
}

size_t workspace_bytes(const Convolution&, int) { return 0; }

void run(const Convolution& v, const float* x, const float* prepared, float* y, const Epilogue& epilogue, void*,
         int threads) {
    const int band_rows = rows_of_band(v, threads);
    const long rows = long(v.n) * v.out_h;
    Job job{v, x, prepared, y, epilogue, band_rows, int((rows + band_rows - 1) / band_rows)};
    parallel_parts(size_t(job.bands), threads, convolve_band, &job);
}

}  // namespace

const ConvolutionAlgorithm kDepthwise = {"depthwise", supports, prepared_floats, prepare, workspace_bytes, run};

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
