// Convolution of images with few channels straight from the image: a kernel row of a pixel is a run of adjacent floats,
// and the next pixel's lies a stride further on. Nothing is packed but bands of lines with the zeros around them.
// Takes kernels without groups and dilation along the line. Compiled once per instruction set.
//
// For first layers: packing the windows of three channels takes as long as a third of their products. As
// integer_direct.cc.
#include "convolution_levels.h"
#include "finish.h"
#include "gemm.h"
#include "parts.h"
#include "runs.h"
#include "window_lines.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

struct Plan {
    long line, bands;  // floats of a padded line; bands of an image
    int band_rows, in_lines;

    Plan(const Convolution& v, int threads) : line(((v.out_w - 1L) * v.stride_w + v.s) * v.c) {
        // Lines that stay in the first-level cache, and enough bands for the threads.
        const long lines = long(caches().first) / 2 / long(sizeof(float)) / line;
        const long most = (lines - (v.r - 1L) * v.dilation_h - 1) / v.stride_h + 1;
        const long wanted = (wanted_parts(threads) + v.n - 1) / (v.n ? v.n : 1);
        bands = most < 1 ? v.out_h : (v.out_h + most - 1) / most;
        if (bands < wanted) bands = wanted < v.out_h ? wanted : v.out_h;
        band_rows = int((v.out_h + bands - 1) / bands);
        bands = (v.out_h + band_rows - 1) / band_rows;
        in_lines = (band_rows - 1) * v.stride_h + (v.r - 1) * v.dilation_h + 1;
    }

    // Lines, room for the copy of one to write too many, and a tile of sums.
    long worker_floats() const { return round_up(in_lines * line + kDepth, kDepth) + kRows * kPanel; }
};

struct Job {
    const Convolution& shape;
    const Plan plan;
    const float* x;
    const float* weights;
    float* y;
    const Epilogue& epilogue;
    float* workers;
};

// Copies line `row` of the image, which may lie outside, with the zeros before and after it.
void pack_line(const Job& job, const float* image, int row, float* to) {
    const Convolution& v = job.shape;
    const long floats = job.plan.line, before = long(v.pad_left) * v.c < floats ? long(v.pad_left) * v.c : floats;
    const long width = long(v.w) * v.c, inside = width < floats - before ? width : floats - before;
    if (row < 0 || row >= v.h) return clear_floats(to, floats);
    const float* const from = image + row * long(v.w) * v.x_pitch;
    clear_floats(to, before);
    if (v.x_pitch == v.c)
        copy_floats(to + before, from, inside);
    else
        for (long pixel = 0; pixel * v.c < inside; ++pixel)
            copy_floats(to + before + pixel * v.c, from + pixel * v.x_pitch, v.c);
    clear_floats(to + before + inside, floats - before - inside);
}

void convolve_band(void* context, size_t part, int worker) {
    const Job& job = *static_cast<const Job*>(context);
    const Convolution& v = job.shape;
    const Plan& p = job.plan;
    const long n = long(part) / p.bands;
    const int first = int(part % p.bands) * p.band_rows;
    const int end = first + p.band_rows < v.out_h ? first + p.band_rows : v.out_h;
    float* const lines = job.workers + worker * p.worker_floats();
    float* const tile = lines + p.worker_floats() - kRows * kPanel;
    const float* const image = job.x + n * v.h * v.w * v.x_pitch;
    const int in_lines = (end - first - 1) * v.stride_h + (v.r - 1) * v.dilation_h + 1;
    for (int i = 0; i < in_lines; ++i) pack_line(job, image, first * v.stride_h - v.pad_top + i, lines + i * p.line);
    const Runs runs{v.r, long(v.s) * v.c, v.dilation_h * p.line, long(v.stride_w) * v.c};
    const Blocks blocks(v.out_w);
    const long depth = long(v.r) * v.s * v.c;
    for (int panel = 0; panel < panel_count(v.k); ++panel) {
        const int vectors = panel_vectors(v.k, panel), left = v.k - panel * kPanel;
        for (int row = first; row < end; ++row)
            for (int block = 0; block < blocks.count; ++block) {
                const int begin = blocks.begin(block), pixels = blocks.begin(block + 1) - begin;
                run_tiles.kernel(pixels, vectors)(lines + (row - first) * v.stride_h * p.line + begin * runs.step, runs,
                                                  job.weights + depth * panel * kPanel, tile);
                finish_tile(tile, vectors * kLanes, pixels, job.epilogue, job.y, v.y_pitch,
                            (n * v.out_h + row) * v.out_w + begin, panel * kPanel, left < kPanel ? left : kPanel);
            }
    }
    end_streams(job.epilogue);
}

// With more channels pixels lie too far apart for the sets of the cache, and packing costs little against the products.
bool supports(const Convolution& v) { return v.groups == 1 && v.dilation_w == 1 && v.c <= 2 * kDepth; }

size_t prepared_floats(const Convolution& v) { return kGemm.prepared_floats(v); }

void prepare(const Convolution& v, const float* w_kcrs, float* prepared) { kGemm.prepare(v, w_kcrs, prepared); }

size_t workspace_bytes(const Convolution& v, int threads) {
    return size_t(threads * Plan(v, threads).worker_floats()) * sizeof(float);
}

void run(const Convolution& v, const float* x, const float* prepared, float* y, const Epilogue& epilogue,
         void* workspace, int threads) {
    const Plan p(v, threads);
    const Epilogue e = stored(epilogue, v, y);
    Job job{v, p, x, prepared, y, e, static_cast<float*>(workspace)};
    parallel_parts(size_t(v.n * p.bands), threads, convolve_band, &job);
}

}  // namespace

const ConvolutionAlgorithm kDirect = {"direct", supports, prepared_floats, prepare, workspace_bytes, run};

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
