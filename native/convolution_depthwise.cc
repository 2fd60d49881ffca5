// Depthwise convolution: every channel by itself, a vector of channels at a time, straight from the image.
// Compiled once per instruction set.
//
// Up to eight neighbouring pixels share each weight, so that the loads of the image alone bound the speed; at the edges
// of the image, where pixels differ in their taps, up to four vectors of channels hide the latency of the sums.
#include "convolution_levels.h"
#include "finish.h"
#include "gemm.h"
#include "parts.h"
#include "windows.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

constexpr int kPixels = 8, kEdgeVectors = 4;

struct Job {
    const Convolution& shape;
    const float* x;
    const float* weights;
    float* y;
    const Epilogue& epilogue;
    int band_rows, bands;
    int chunk, chunks;  // channels of a part
};

// Output rows of one part: about 8 parts for each thread, so that uneven cores share the work.
int rows_of_band(const Convolution& v, int threads) {
    const long rows = long(v.n) * v.out_h, parts = 8L * threads;
    return int(rows <= parts ? 1 : (rows + parts - 1) / parts);
}

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

template <int P, bool Whole>
inline void convolve_pixels(const Job& job, const Row& row, int column, int channel, int count) {
    const Convolution& v = job.shape;
    const long step = long(v.stride_w) * v.x_pitch, tap = long(v.dilation_w) * v.x_pitch, plane = round_up(v.c, kLanes);
    const int left = column * v.stride_w - v.pad_left;
    F sums[P] = {};
    for (int r = row.first; r < row.end; ++r) {
        const float* from = row.at(v, r, left) + channel;
        const float* weight = job.weights + long(r) * v.s * plane + channel;
        for (int s = 0; s < v.s; ++s, from += tap, weight += plane) {
            const F w = load(weight);
#pragma GCC unroll 8
            for (int p = 0; p < P; ++p)
                sums[p] += w * (Whole ? load(from + p * step) : load_part(from + p * step, count));
        }
    }
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) finish(sums[p], job.epilogue, job.y, v.y_pitch, row.pixel + column + p, channel, count);
}

// P pixels whose windows lie within the image's width, channels `begin` to `end`.
template <int P>
void convolve_inside(const Job& job, const Row& row, int column, int begin, int end) {
    int channel = begin;
    for (; channel + kLanes <= end; channel += kLanes) convolve_pixels<P, true>(job, row, column, channel, kLanes);
    if (channel < end) convolve_pixels<P, false>(job, row, column, channel, end - channel);
}

using Inner = void (*)(const Job&, const Row&, int column, int begin, int end);
constexpr Inner inner[kPixels] = {convolve_inside<1>, convolve_inside<2>, convolve_inside<3>, convolve_inside<4>,
                                  convolve_inside<5>, convolve_inside<6>, convolve_inside<7>, convolve_inside<8>};

template <int V>
inline void convolve_edge(const Job& job, const Row& row, int column, int channel, int count) {
    const Convolution& v = job.shape;
    const long plane = round_up(v.c, kLanes);
    const int left = column * v.stride_w - v.pad_left;
    F sums[V] = {};
    for (int s = 0; s < v.s; ++s) {
        const int from = left + s * v.dilation_w;
        if (from < 0 || from >= v.w) continue;
        for (int r = row.first; r < row.end; ++r) {
            const float* const at = row.at(v, r, from) + channel;
            const float* const weight = job.weights + (long(r) * v.s + s) * plane + channel;
#pragma GCC unroll 4
            for (int i = 0; i < V; ++i)
                sums[i] += load(weight + i * kLanes) *
                           (V > 1 || count >= kLanes ? load(at + i * kLanes) : load_part(at + i * kLanes, count));
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < V; ++i)
        finish(sums[i], job.epilogue, job.y, v.y_pitch, row.pixel + column, channel + i * kLanes, count - i * kLanes);
}

void convolve_row(const Job& job, const Row& row, const Inside& inside, int begin, int end) {
    for (int column = 0; column < job.shape.out_w;) {
        if (column >= inside.begin && column < inside.end) {
            const int left = inside.end - column, pixels = left < kPixels ? left : kPixels;
            inner[pixels - 1](job, row, column, begin, end);
            column += pixels;
            continue;
        }
        int channel = begin;
        for (; channel + kEdgeVectors * kLanes <= end; channel += kEdgeVectors * kLanes)
            convolve_edge<kEdgeVectors>(job, row, column, channel, kEdgeVectors * kLanes);
        for (; channel < end; channel += kLanes) convolve_edge<1>(job, row, column, channel, end - channel);
        ++column;
    }
}

void convolve_band(void* context, size_t part, int) {
    const Job& job = *static_cast<const Job*>(context);
    const Inside inside(job.shape);
    const long rows = long(job.shape.n) * job.shape.out_h, first = long(part) / job.chunks * job.band_rows;
    const int begin = int(part % job.chunks) * job.chunk;
    const int end = begin + job.chunk < job.shape.c ? begin + job.chunk : job.shape.c;
    for (long row = first; row < first + job.band_rows && row < rows; ++row)
        convolve_row(job, Row(job.shape, job.x, row), inside, begin, end);
    end_streams(job.epilogue);
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
    const int band_rows = rows_of_band(v, threads), vectors = int(round_up(v.c, kLanes) / kLanes);
    const long rows = long(v.n) * v.out_h, bands = (rows + band_rows - 1) / band_rows;
    if (bands == 0) return;
    // Where an image has few rows, the channels are shared out too.
    const long wanted = threads > 1 ? (8L * threads + bands - 1) / bands : 1;
    const int per_part = int((vectors + wanted - 1) / wanted), chunk = per_part * kLanes;
    const int chunks = (vectors + per_part - 1) / per_part;
    const Epilogue e = stored(epilogue, v, y);
    Job job{v, x, prepared, y, e, band_rows, int(bands), chunk, chunks};
    parallel_parts(size_t(bands * chunks), threads, convolve_band, &job);
}

}  // namespace

const ConvolutionAlgorithm kDepthwise = {"depthwise", supports, prepared_floats, prepare, workspace_bytes, run};

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
