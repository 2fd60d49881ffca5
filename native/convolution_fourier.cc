// Convolutions with large kernels and stride 1 by Fourier transforms of 16 x 16 and 32 x 32 tiles that overlap by the
// kernel. Compiled once per instruction set.
//
// In three steps, each shared out to the threads: all windows of a group of tiles are transformed, at each point the
// complex products are summed over channels, and the sums are transformed back. A point costs four real
// multiplications, so that T x T tiles take about 2 T^2 for (T - R + 1)^2 outputs: 5.2 instead of 49 at 7 x 7 with
// T = 16, 4.2 instead of 121 at 11 x 11 with T = 32. Mathieu, Henaff, LeCun 2014, arXiv 1312.5851; tiles as in
// Vasilache et al. 2015, arXiv 1412.7580; against Winograd: Zlateski, Jia, Li, Durand 2018, arXiv 1809.07851.
#include "convolution_levels.h"
#include "finish.h"
#include "fourier.h"
#include "gemm.h"
#include "parts.h"
#include "windows.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

// sums[row] = sum over c of a[row][c] w[c], complex: a is block[c / kLanes][row][re or im][c % kLanes] with block_step
// from block to block, w is [c][re or im][kLanes], sums [row][re or im][kLanes].
using MultiplyComplex = void (*)(const float* a, long block_step, int channels, const float* w, float* sums);

template <int R>
inline void add_complex(F (&re)[R], F (&im)[R], const float* a, const float* w) {
    const F w_re = load(w), w_im = load(w + kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
        const F real = all(a[r * kPoint]);
        re[r] += real * w_re;
        im[r] += real * w_im;
        const F imaginary = all(a[r * kPoint + kLanes]);
        re[r] -= imaginary * w_im;
        im[r] += imaginary * w_re;
    }
}

template <int R>
void multiply_complex(const float* a, long block_step, int channels, const float* w, float* sums) {
    F re[R] = {}, im[R] = {};
    for (; channels >= kLanes; channels -= kLanes, a += block_step)
        for (int c = 0; c < kLanes; ++c, w += kPoint) add_complex<R>(re, im, a + c, w);
    for (int c = 0; c < channels; ++c, w += kPoint) add_complex<R>(re, im, a + c, w);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) store_point(sums + r * kPoint, re[r], im[r]);
}

struct Kernels {
    template <int R, int>
    static constexpr MultiplyComplex kernel = multiply_complex<R>;
};

constexpr TileTable<MultiplyComplex, kRows, 1, Kernels> tiles;

struct Plan {
    int side, points, blocks, panels;     // blocks of channels and panels of outputs, a vector each
    int tile_rows, tile_columns;          // outputs of a tile
    long high, wide, tiles, group;        // tiles down, across, of all images, of a group
    long window_step, sum_step, scratch;  // from point to point, of odd numbers of cache lines; floats of a worker

    Plan(const Convolution& v, int tile)
        : side(tile),
          points(points_of(tile)),
          blocks((v.c + kLanes - 1) / kLanes),
          panels((v.k + kLanes - 1) / kLanes),
          tile_rows(tile - v.r + 1),
          tile_columns(tile - v.s + 1),
          high((v.out_h + tile_rows - 1) / tile_rows),
          wide((v.out_w + tile_columns - 1) / tile_columns),
          tiles(v.n * high * wide),
          scratch(scratch_floats(tile)) {
        group = kMost / (long(points) * (blocks + panels) * kPoint);
        if (group < kRows) group = kRows;
        if (group > tiles) group = tiles;
        window_step = odd_lines(group * blocks * kPoint);
        sum_step = odd_lines(group * panels * kPoint);
    }

    // 16 MiB of windows and sums at a time: they stay in the third-level cache.
    static constexpr long kMost = (long(16) << 20) / long(sizeof(float));
    long window_floats() const { return points * window_step; }
    long sum_floats() const { return points * sum_step; }
    long weight_point() const { return long(panels) * kPoint; }  // times channels
};

struct Job {
    const Convolution& shape;
    const Plan plan;
    const float* x;
    const float* weights;
    float* y;
    const Epilogue& epilogue;
    float* windows;
    float* sums;
    float* scratch;
    long first, count;  // tiles of the group at work
};

// Where a tile lies.
struct Place {
    long n;
    int row, column;

    Place(const Job& job, long index) {
        const Plan& p = job.plan;
        const long tile = job.first + index, area = p.high * p.wide;
        n = tile / area;
        row = int(tile % area / p.wide) * p.tile_rows;
        column = int(tile % p.wide) * p.tile_columns;
    }
};

template <int T>
void forward_part(void* context, size_t part, int worker) {
    const Job& job = *static_cast<const Job*>(context);
    const Convolution& v = job.shape;
    const Plan& p = job.plan;
    const long index = long(part) / p.blocks;
    const int block = int(part % p.blocks), channel = block * kLanes, count = v.c - channel;
    const Place place(job, index);
    const float* const image = job.x + place.n * v.h * v.w * v.x_pitch + channel;
    const int top = place.row - v.pad_top, left = place.column - v.pad_left;
    const auto read = [&](int i, int j) {
        const int row = top + i, column = left + j;
        if (row < 0 || row >= v.h || column < 0 || column >= v.w) return F{};
        const float* const at = image + (long(row) * v.w + column) * v.x_pitch;
        return count >= kLanes ? load(at) : load_part(at, count);
    };
    const int rows = v.h - top < T ? (v.h - top + 1) / 2 * 2 : T;
    forward_fourier<T>(read, rows < 0 ? 0 : rows, job.scratch + worker * p.scratch,
                       job.windows + (block * job.count + index) * kPoint, p.window_step);
}

// Of one point, all rows and panels.
void multiply_part(void* context, size_t part, int) {
    const Job& job = *static_cast<const Job*>(context);
    const Plan& p = job.plan;
    const int channels = job.shape.c;
    const Blocks rows{int(job.count)};
    const float* const windows = job.windows + long(part) * p.window_step;
    const float* weights = job.weights + long(part) * p.weight_point() * channels;
    float* sums = job.sums + long(part) * p.sum_step;
    for (int panel = 0; panel < p.panels; ++panel, weights += long(channels) * kPoint, sums += job.count * kPoint)
        for (int b = 0; b < rows.count; ++b) {
            const int begin = rows.begin(b);
            tiles.kernel(rows.begin(b + 1) - begin, 1)(windows + begin * kPoint, job.count * kPoint, channels, weights,
                                                       sums + begin * kPoint);
        }
}

template <int T>
void inverse_part(void* context, size_t part, int worker) {
    const Job& job = *static_cast<const Job*>(context);
    const Convolution& v = job.shape;
    const Plan& p = job.plan;
    const long index = long(part) / p.panels;
    const int panel = int(part % p.panels), channel = panel * kLanes;
    const Place place(job, index);
    const int rows = v.out_h - place.row < p.tile_rows ? v.out_h - place.row : p.tile_rows;
    const int columns = v.out_w - place.column < p.tile_columns ? v.out_w - place.column : p.tile_columns;
    const long pixel = (place.n * v.out_h + place.row) * v.out_w + place.column;
    const auto write = [&](int i, int j, F sum) {
        if (i < rows && j < columns)
            finish(sum, job.epilogue, job.y, v.y_pitch, pixel + long(i) * v.out_w + j, channel, v.k - channel);
    };
    inverse_fourier<T>(job.sums + (panel * job.count + index) * kPoint, p.sum_step, rows,
                       job.scratch + worker * p.scratch, write);
}

// Weights as [point][panel][channel][re or im][output]: conjugated, since convolutions of networks are correlations,
// and with the factors that the transforms leave out: 2 of the windows, 2 of the weights, T * T of the way back.
template <int T>
void prepare_fourier(const Convolution& v, const float* w_kcrs, float* prepared) {
    const Plan p(v, T);
    const float factor = 1.0f / (4.0f * T * T);
    alignas(kAlignment) float scratch[scratch_floats(T)];
    for (int panel = 0; panel < p.panels; ++panel)
        for (int c = 0; c < v.c; ++c) {
            const auto read = [&](int r, int s) {
                F taps = {};
                if (r < v.r && s < v.s)
                    for (int lane = 0; lane < kLanes && panel * kLanes + lane < v.k; ++lane)
                        taps[lane] = factor * w_kcrs[((long(panel * kLanes + lane) * v.c + c) * v.r + r) * v.s + s];
                return taps;
            };
            float* const to = prepared + (long(panel) * v.c + c) * kPoint;
            const long step = p.weight_point() * v.c;
            forward_fourier<T>(read, (v.r + 1) / 2 * 2, scratch, to, step);
            for (int point = 0; point < p.points; ++point) {
                float* const imaginary = to + point * step + kLanes;
                store(imaginary, -load(imaginary));
            }
        }
}

template <int T>
struct Fourier {
    // Smaller kernels are Winograd's; a tile should hold more outputs than kernel.
    static bool supports(const Convolution& v) {
        return is_dense(v) && v.r <= T / 4 * 3 && v.s <= T / 4 * 3 && v.r * v.s >= 9;
    }
    static size_t prepared_floats(const Convolution& v) {
        const Plan p(v, T);
        return size_t(p.points * p.weight_point() * v.c);
    }
    static void prepare(const Convolution& v, const float* w_kcrs, float* prepared) {
        prepare_fourier<T>(v, w_kcrs, prepared);
    }
    static size_t workspace_bytes(const Convolution& v, int threads) {
        const Plan p(v, T);
        return size_t(p.window_floats() + p.sum_floats() + threads * p.scratch) * sizeof(float);
    }
    static void run(const Convolution& v, const float* x, const float* prepared, float* y, const Epilogue& epilogue,
                    void* workspace, int threads) {
        const Plan p(v, T);
        float* const windows = static_cast<float*>(workspace);
        float* const sums = windows + p.window_floats();
        Job job{v, p, x, prepared, y, epilogue, windows, sums, sums + p.sum_floats(), 0, 0};
        for (; job.first < p.tiles; job.first += p.group) {
            job.count = p.tiles - job.first < p.group ? p.tiles - job.first : p.group;
            parallel_parts(size_t(job.count * p.blocks), threads, forward_part<T>, &job);
            parallel_parts(size_t(p.points), threads, multiply_part, &job);
            parallel_parts(size_t(job.count * p.panels), threads, inverse_part<T>, &job);
        }
    }
    static constexpr ConvolutionAlgorithm entry(const char* name) {
        return {name, supports, prepared_floats, prepare, workspace_bytes, run};
    }
};

}  // namespace

const ConvolutionAlgorithm kFourier[kFourierForms] = {Fourier<16>::entry("fft_16x16"), Fourier<32>::entry("fft_32x32")};

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
