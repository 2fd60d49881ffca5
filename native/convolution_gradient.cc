// The gradient of a convolution's weights: for each tap, the products of image and output gradient summed over pixels.
// Compiled once per instruction set. The gradient of the image is a convolution itself.
//
// A tile of input channels by output channels stays in registers while pixels stream by; pixels come in chunks that fit
// the second-level cache, and all tiles of all taps are gone through for each chunk. Every tile sums in the order of
// the pixels, so that the result does not depend on the threads.
#include "gemm.h"
#include "gradient.h"
#include "parts.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {

extern const ConvolutionGradient kGradient;

namespace {

constexpr long kTile = long(kRows) * kPanel;

struct Job {
    const Convolution& shape;
    const float* x;
    const float* dy;
    float* tiles;
    int channels, columns, row_tiles, panels;
    long first_line, end_line;  // of the chunk: output rows of all images

    long units() const { return long(shape.groups) * shape.r * shape.s * row_tiles * panels; }
};

Job job_of(const Convolution& v, const float* x, const float* dy, float* tiles) {
    const int channels = v.c / v.groups, columns = v.k / v.groups;
    return {v, x, dy, tiles, channels, columns, (channels + kRows - 1) / kRows, panel_count(columns), 0, 0};
}

// A tile: where it begins, and its tap.
struct Unit {
    int group, r, s, row, rows, column, vectors;

    Unit(const Job& job, long index) {
        const int panel = int(index % job.panels), tile = int(index / job.panels % job.row_tiles);
        const long tap = index / job.panels / job.row_tiles;
        s = int(tap % job.shape.s);
        r = int(tap / job.shape.s % job.shape.r);
        group = int(tap / job.shape.s / job.shape.r);
        row = int(long(job.channels) * tile / job.row_tiles);
        rows = int(long(job.channels) * (tile + 1) / job.row_tiles) - row;
        column = panel * kPanel;
        vectors = panel_vectors(job.columns, panel);
    }
};

using Accumulate = void (*)(const Job& job, const Unit& unit, float* tile);

template <int R, int V, bool Part>
void accumulate(const Job& job, const Unit& unit, float* tile) {
    const Convolution& v = job.shape;
    F sums[R][V];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
        for (int i = 0; i < V; ++i) sums[r][i] = load(tile + (r * V + i) * kLanes);
    }
    const int shift = unit.s * v.dilation_w - v.pad_left, last = job.columns - unit.column - (V - 1) * kLanes;
    const int begin = shift >= 0 ? 0 : (-shift + v.stride_w - 1) / v.stride_w;
    const int inside = v.w - 1 - shift < 0 ? 0 : (v.w - 1 - shift) / v.stride_w + 1;
    const int end = inside < v.out_w ? inside : v.out_w;
    const long step = long(v.stride_w) * v.x_pitch;
    for (long line = job.first_line; line < job.end_line; ++line) {
        const int i = int(line % v.out_h) * v.stride_h - v.pad_top + unit.r * v.dilation_h;
        if (i < 0 || i >= v.h || begin >= end) continue;
        const float* x = job.x + ((line / v.out_h * v.h + i) * v.w + long(begin) * v.stride_w + shift) * v.x_pitch +
                         unit.group * job.channels + unit.row;
        const float* dy = job.dy + (line * v.out_w + begin) * v.y_pitch + unit.group * job.columns + unit.column;
        for (int j = begin; j < end; ++j, x += step, dy += v.y_pitch) {
            F gradient[V];
#pragma GCC unroll 4
            for (int n = 0; n < V; ++n)
                gradient[n] = Part && n == V - 1 ? load_part(dy + n * kLanes, last) : load(dy + n * kLanes);
#pragma GCC unroll 16
            for (int r = 0; r < R; ++r) {
                const F element = all(x[r]);
#pragma GCC unroll 4
                for (int n = 0; n < V; ++n) sums[r][n] += element * gradient[n];
            }
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
        for (int i = 0; i < V; ++i) store(tile + (r * V + i) * kLanes, sums[r][i]);
    }
}

template <int R>
constexpr void fill_table(Accumulate (&table)[kRows][kVectors][2]) {
    table[R - 1][0][0] = accumulate<R, 1, false>;
    table[R - 1][0][1] = accumulate<R, 1, true>;
    table[R - 1][1][0] = accumulate<R, 2, false>;
    table[R - 1][1][1] = accumulate<R, 2, true>;
    if constexpr (R > 1) fill_table<R - 1>(table);
}

struct Table {
    Accumulate table[kRows][kVectors][2] = {};
    constexpr Table() { fill_table<kRows>(table); }
};

static_assert(kVectors == 2, "the table holds tiles of one and of two vectors");
constexpr Table kernels;

void accumulate_unit(void* context, size_t part, int) {
    const Job& job = *static_cast<const Job*>(context);
    const Unit unit(job, long(part));
    const bool partial = job.columns - unit.column < unit.vectors * kLanes;
    kernels.table[unit.rows - 1][unit.vectors - 1][partial](job, unit, job.tiles + long(part) * kTile);
}

// Output rows whose image and gradient fit half the second-level cache.
long chunk_lines(const Convolution& v) {
    const long bytes = (long(v.stride_h) * v.w * v.c + long(v.out_w) * v.k) * long(sizeof(float));
    const long lines = long(caches().second) / 2 / (bytes ? bytes : 1);
    return lines < 1 ? 1 : lines;
}

size_t workspace_bytes(const Convolution& v) {
    return size_t(job_of(v, nullptr, nullptr, nullptr).units() * kTile) * sizeof(float);
}

void weights(const Convolution& v, const float* x, const float* dy, float* dw_kcrs, void* workspace, int threads) {
    Job job = job_of(v, x, dy, static_cast<float*>(workspace));
    const long units = job.units(), lines = long(v.n) * v.out_h, chunk = chunk_lines(v);
    memset(workspace, 0, size_t(units * kTile) * sizeof(float));
    for (long first = 0; first < lines; first += chunk) {
        job.first_line = first;
        job.end_line = first + chunk < lines ? first + chunk : lines;
        parallel_parts(size_t(units), threads, accumulate_unit, &job);
    }
    for (long index = 0; index < units; ++index) {
        const Unit unit(job, index);
        const float* const tile = job.tiles + index * kTile;
        for (int r = 0; r < unit.rows; ++r)
            for (int j = 0; j < unit.vectors * kLanes && unit.column + j < job.columns; ++j) {
                const long k = long(unit.group) * job.columns + unit.column + j;
                dw_kcrs[((k * job.channels + unit.row + r) * v.r + unit.r) * v.s + unit.s] =
                    tile[r * unit.vectors * kLanes + j];
            }
    }
}

}  // namespace

const ConvolutionGradient kGradient = {workspace_bytes, weights};

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
