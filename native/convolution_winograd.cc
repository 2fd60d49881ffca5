// Winograd convolutions F(m x m, r x r) with stride 1, and along one axis for 1xN and Nx1 kernels.
// Compiled once per instruction set.
//
// Tiles of the image are transformed into A^2 points, each point is a matrix product over channels, and the sums are
// transformed back while they are in the cache. Lavin & Gray 2016, arXiv 1509.09308. Two ways through the caches:
//  - fused: a thread takes a block of tiles through all three steps; for few channels;
//  - split: first all windows of a group of blocks are transformed, then the threads take (block, panel of outputs);
//    for many channels or few tiles.
// Transformed weights are A^2 / R^2 times (4 times for F(4x4,3x3)) as many as the weights. Where they would have to
// come from memory they are not stored: each task transforms its own, a chunk of channels at a time, which costs about
// 50 cycles a vector against 18 for every tile of the block.
//
// A kernel larger than a form's is cut into parts of that size, and its parts count as more channels of windows that
// are shifted: a tile's products are then summed over all parts before the one transform back. Cutting large kernels
// into small ones is as in Huang et al. 2020, DWM, arXiv 2002.00552, but with stride 1 and in the transformed domain.
#include "convolution_levels.h"
#include "gemm.h"
#include "parts.h"
#include "winograd_tiles.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

struct Transforms {
    int ah, mh, aw, mw;
    void (*forward)(const Convolution&, const Tile&, int begin, int end, int first, const PackedPoints&);
    void (*kernel)(const float* from, int channels, int width, float* to, long point_step);
    void (*inverse)(const float* from, long step, const Convolution&, const Tile&, int channel, int vectors,
                    const Epilogue&, float* y);

    constexpr int points() const { return ah * aw; }
    constexpr int rows() const { return ah - mh + 1; }
    constexpr int columns() const { return aw - mw + 1; }
    constexpr int taps() const { return rows() * columns(); }
};

constexpr int kChannels = 64;  // of one part of transforming windows

struct Plan {
    int parts_wide, part_channels, depth;  // parts of a kernel in a row; channels of a part; of all parts
    long high, wide, tiles;
    bool stored, fused;
    long block, blocks, group;  // tiles of a block; blocks; blocks of a group
    int chunk;                  // channels whose weights are transformed at a time
    int points, panels;
    long window_step, sum_step, weight_step;

    Plan(const Convolution& v, const Transforms& t, int threads)
        : high((v.out_h + t.mh - 1) / t.mh), wide((v.out_w + t.mw - 1) / t.mw), tiles(v.n * high * wide) {
        points = t.points();
        panels = panel_count(v.k);
        const int parts_high = (v.r + t.rows() - 1) / t.rows();
        parts_wide = (v.s + t.columns() - 1) / t.columns();
        part_channels = parts_high * parts_wide == 1 ? v.c : int(round_up(v.c, kLanes));
        depth = parts_high * parts_wide * part_channels;
        const long cache = long(caches().second) / long(sizeof(float));
        stored = stored_floats(v) <= kStored;
        // A quarter of the cache for the sums, half for the windows.
        long most = cache / 4 / (points * kPanel);
        const long fitting = cache / 2 / (points * round_up(depth, kDepth));
        fused = stored && fitting >= kRows && tiles >= 2L * kRows * threads;
        if (fused && most > fitting) most = fitting;
        most = most < kRows ? kRows : most / kRows * kRows;
        blocks = (tiles + most - 1) / most;
        if (fused && blocks < 4 * threads) {
            const long useful = tiles / kRows < 4 * threads ? tiles / kRows : 4 * threads;
            if (blocks < useful) blocks = useful;
        }
        if (fused && threads > 1 && blocks < 8 * threads) blocks = round_up(blocks, threads);
        block = (tiles + blocks - 1) / blocks;
        blocks = (tiles + block - 1) / block;
        window_step = odd_lines(packed_rows(block, depth));
        sum_step = odd_lines(block * kPanel);
        chunk = depth < kChannels ? depth : kChannels;
        weight_step = odd_lines(long(chunk) * kPanel);
        // At most about 16 MiB of windows at a time.
        group = fused ? 1 : (long(16) << 20) / long(sizeof(float)) / (points * window_step);
        if (group < 1) group = 1;
        if (group > blocks) group = blocks;
    }

    // Up to here stored weights win: 16 MiB, 1.2 to 1.35 times faster than transforming while they stay in the
    // third-level cache (256 and 512 channels at 14x14 and 7x7 pixels), and as fast when they come from memory.
    static constexpr long kStored = (long(16) << 20) / long(sizeof(float));

    long stored_floats(const Convolution& v) const { return packed_columns(v.k, depth) * points; }
    long window_floats() const { return points * window_step; }
    long worker_floats() const { return points * (sum_step + (stored ? 0 : weight_step) + (fused ? window_step : 0)); }
    long shared_floats() const { return fused ? 0 : group * window_floats(); }
    long block_begin(long index) const { return index * block; }
    int block_tiles(long index) const { return int(tiles - index * block < block ? tiles - index * block : block); }
};

struct Job {
    const Convolution& shape;
    const Transforms& transforms;
    const Plan plan;
    const float* x;
    const float* weights;
    float* y;
    const Epilogue& epilogue;
    float* shared;
    float* workers;
    long first_block;  // of the group at work

    float* worker(int index) const { return workers + index * plan.worker_floats(); }
};

// The tiles one after the other, from number `index` on.
class Walk {
  public:
    Walk(const Job& job, long index) : v_(job.shape), t_(job.transforms), x_(job.x) {
        const long area = job.plan.high * job.plan.wide;
        n_ = index / area;
        row_ = int(index % area / job.plan.wide) * t_.mh;
        column_ = int(index % job.plan.wide) * t_.mw;
    }

    Tile tile() const {
        return {x_ + n_ * v_.h * v_.w * v_.x_pitch,          row_ - v_.pad_top, column_ - v_.pad_left,
                (n_ * v_.out_h + row_) * v_.out_w + column_, v_.out_h - row_,   v_.out_w - column_};
    }

    void next() {
        column_ += t_.mw;
        if (column_ < v_.out_w) return;
        column_ = 0;
        row_ += t_.mh;
        if (row_ < v_.out_h) return;
        row_ = 0;
        ++n_;
    }

  private:
    const Convolution& v_;
    const Transforms& t_;
    const float* x_;
    long n_;
    int row_, column_;
};

// Transforms channels `begin` to `end`, of all parts, of one tile's windows.
void forward_parts(const Job& job, const Tile& tile, int begin, int end, const PackedPoints& points) {
    const Plan& p = job.plan;
    for (int part = begin / p.part_channels; part * p.part_channels < end; ++part) {
        const int first = part * p.part_channels, from = begin > first ? begin - first : 0;
        const int to = end - first < job.shape.c ? end - first : job.shape.c;
        Tile shifted = tile;
        shifted.top += part / p.parts_wide * job.transforms.rows();
        shifted.left += part % p.parts_wide * job.transforms.columns();
        job.transforms.forward(job.shape, shifted, from, to, first, points);
    }
}

// Transforms channels `begin` to `end` of the windows of tiles `from` to `to` of a block.
void forward_tiles(const Job& job, long block, int from, int to, int begin, int end, float* windows) {
    const Blocks rows(job.plan.block_tiles(block));
    Walk walk(job, job.plan.block_begin(block) + from);
    for (int b = 0; b < rows.count; ++b) {
        const int first = rows.begin(b), count = rows.begin(b + 1) - first;
        for (int row = first > from ? first : from; row < first + count && row < to; ++row, walk.next()) {
            const PackedPoints points{windows + packed_rows(first, job.plan.depth) + (row - first) * kDepth,
                                      job.plan.window_step, long(count) * kDepth};
            forward_parts(job, walk.tile(), begin, end, points);
        }
    }
}

// Multiplies chunk `begin` to `end` of the channels, at every point, into the sums.
void multiply_points(const Job& job, const Blocks& rows, int vectors, int begin, int end, const float* windows,
                     const float* weights, long weight_step, float* sums) {
    const int pitch = vectors * kLanes;
    for (int point = 0; point < job.plan.points; ++point)
        for (int b = 0; b < rows.count; ++b) {
            const int first = rows.begin(b), count = rows.begin(b + 1) - first;
            const float* from = windows + point * job.plan.window_step + packed_rows(first, job.plan.depth);
            (begin ? add_tile : multiply_tile)(count, vectors)(from + long(begin) * count,
                                                               weights + point * weight_step, end - begin,
                                                               sums + point * job.plan.sum_step + first * pitch, pitch);
        }
}

// One block of tiles times one panel of output channels, to the end.
void multiply_block(const Job& job, long block, int panel, const float* windows, float* scratch) {
    const Plan& p = job.plan;
    const int channels = p.depth, vectors = panel_vectors(job.shape.k, panel), pitch = vectors * kLanes;
    const Blocks rows(p.block_tiles(block));
    float* const sums = scratch;
    if (p.stored) {
        const float* weights = job.weights + long(p.points) * channels * panel * kPanel;
        multiply_points(job, rows, vectors, 0, channels, windows, weights, long(channels) * pitch, sums);
    } else {
        float* const chunk = sums + p.points * p.sum_step;
        const float* weights = job.weights + long(job.transforms.taps()) * channels * panel * kPanel;
        for (int begin = 0; begin < channels; begin += p.chunk) {
            const int end = begin + p.chunk < channels ? begin + p.chunk : channels;
            job.transforms.kernel(weights + long(job.transforms.taps()) * begin * pitch, end - begin, pitch, chunk,
                                  p.weight_step);
            multiply_points(job, rows, vectors, begin, end, windows, chunk, p.weight_step, sums);
        }
    }
    Walk walk(job, p.block_begin(block));
    for (int row = 0; row < rows.rows; ++row, walk.next())
        job.transforms.inverse(sums + row * pitch, p.sum_step, job.shape, walk.tile(), panel * kPanel, vectors,
                               job.epilogue, job.y);
    end_streams(job.epilogue);
}

void fused_part(void* context, size_t part, int worker) {
    const Job& job = *static_cast<const Job*>(context);
    float* const windows = job.worker(worker);
    forward_tiles(job, long(part), 0, job.plan.block_tiles(long(part)), 0, job.plan.depth, windows);
    for (int panel = 0; panel < job.plan.panels; ++panel)
        multiply_block(job, long(part), panel, windows, windows + job.plan.window_floats());
}

int channel_parts(const Plan& p) { return (p.depth + kChannels - 1) / kChannels; }

// Parts of the first phase: rows of one micro-kernel and kChannels channels.
void forward_part(void* context, size_t part, int) {
    const Job& job = *static_cast<const Job*>(context);
    const long strips = (job.plan.block + kRows - 1) / kRows, rest = long(part) / channel_parts(job.plan);
    const int begin = int(part % channel_parts(job.plan)) * kChannels, from = int(rest % strips) * kRows;
    const int end = begin + kChannels < job.plan.depth ? begin + kChannels : job.plan.depth;
    const long block = rest / strips;
    forward_tiles(job, job.first_block + block, from, from + kRows, begin, end,
                  job.shared + block * job.plan.window_floats());
}

void multiply_part(void* context, size_t part, int worker) {
    const Job& job = *static_cast<const Job*>(context);
    const long block = long(part) / job.plan.panels;
    multiply_block(job, job.first_block + block, int(part % job.plan.panels),
                   job.shared + block * job.plan.window_floats(), job.worker(worker));
}

void run_transforms(const Transforms& t, const Convolution& v, const float* x, const float* prepared, float* y,
                    const Epilogue& epilogue, void* workspace, int threads) {
    const Plan p(v, t, threads);
    if (p.tiles == 0) return;
    float* const memory = static_cast<float*>(workspace);
    const Epilogue e = stored(epilogue, v, y);
    Job job{v, t, p, x, prepared, y, e, memory, memory + p.shared_floats(), 0};
    if (p.fused) {
        parallel_parts(size_t(p.blocks), threads, fused_part, &job);
        return;
    }
    const long strips = (p.block + kRows - 1) / kRows;
    for (; job.first_block < p.blocks; job.first_block += p.group) {
        const long count = p.blocks - job.first_block < p.group ? p.blocks - job.first_block : p.group;
        parallel_parts(size_t(count * strips * channel_parts(p)), threads, forward_part, &job);
        parallel_parts(size_t(count * p.panels), threads, multiply_part, &job);
    }
}

// The weight of one tap of one channel of a part; zero beyond the kernel, the channels and the outputs.
inline float weight(const Transforms& t, const Convolution& v, const Plan& p, const float* w_kcrs, long k, int channel,
                    int tap) {
    const int part = channel / p.part_channels, c = channel % p.part_channels;
    const int r = part / p.parts_wide * t.rows() + tap / t.columns();
    const int s = part % p.parts_wide * t.columns() + tap % t.columns();
    return k < v.k && c < v.c && r < v.r && s < v.s ? w_kcrs[((k * v.c + c) * v.r + r) * v.s + s] : 0.0f;
}

// Weights as [panel][channel][tap][column]; stored ones are transformed to [panel][point][channel][column].
void prepare_transforms(const Transforms& t, const Convolution& v, const float* w_kcrs, float* prepared) {
    const Plan p(v, t, 1);
    const int taps = t.taps();
    float line[kPanel * 25];
    for (int panel = 0; panel < p.panels; ++panel) {
        const int width = panel_vectors(v.k, panel) * kLanes;
        for (int c = 0; c < p.depth; ++c) {
            float* const to = p.stored ? line : prepared + (long(c) * taps) * width;
            for (int tap = 0; tap < taps; ++tap)
                for (int j = 0; j < width; ++j)
                    to[tap * width + j] = weight(t, v, p, w_kcrs, long(panel) * kPanel + j, c, tap);
            if (p.stored) t.kernel(line, 1, width, prepared + long(c) * width, long(p.depth) * width);
        }
        prepared += long(p.stored ? p.points : taps) * p.depth * width;
    }
}

template <int AH, int MH, int AW, int MW>
struct Winograd {
    static constexpr int kR = AH - MH + 1, kS = AW - MW + 1;
    static constexpr Transforms kTransforms = {
        AH, MH, AW, MW, forward_tile<AH, AW>, kernel_panel<AH, kR, AW, kS>, inverse_tile<AH, MH, AW, MW>};

    static bool supports(const Convolution& v) { return is_dense(v) && v.r == kR && v.s == kS; }
    static bool supports_parts(const Convolution& v) { return is_dense(v) && v.r > kR && v.s > kS; }
    static size_t prepared_floats(const Convolution& v) {
        const Plan p(v, kTransforms, 1);
        return size_t(packed_columns(v.k, p.depth) * (p.stored ? p.points : kTransforms.taps()));
    }
    static void prepare(const Convolution& v, const float* w_kcrs, float* prepared) {
        prepare_transforms(kTransforms, v, w_kcrs, prepared);
    }
    static size_t workspace_bytes(const Convolution& v, int threads) {
        const Plan p(v, kTransforms, threads);
        return size_t(p.shared_floats() + threads * p.worker_floats()) * sizeof(float);
    }
    static void run(const Convolution& v, const float* x, const float* prepared, float* y, const Epilogue& epilogue,
                    void* workspace, int threads) {
        run_transforms(kTransforms, v, x, prepared, y, epilogue, workspace, threads);
    }
    static constexpr ConvolutionAlgorithm entry(const char* name) {
        return {name, supports, prepared_floats, prepare, workspace_bytes, run};
    }
    static constexpr ConvolutionAlgorithm parts(const char* name) {
        return {name, supports_parts, prepared_floats, prepare, workspace_bytes, run};
    }
};

}  // namespace

const ConvolutionAlgorithm kWinograd[kWinogradForms] = {
    Winograd<4, 2, 4, 2>::entry("winograd_2x2_3x3"),       Winograd<6, 4, 6, 4>::entry("winograd_4x4_3x3"),
    Winograd<8, 6, 8, 6>::entry("winograd_6x6_3x3"),       Winograd<6, 2, 6, 2>::entry("winograd_2x2_5x5"),
    Winograd<8, 4, 8, 4>::entry("winograd_4x4_5x5"),       Winograd<1, 1, 6, 4>::entry("winograd_1x4_1x3"),
    Winograd<6, 4, 1, 1>::entry("winograd_4x1_3x1"),       Winograd<1, 1, 8, 4>::entry("winograd_1x4_1x5"),
    Winograd<8, 4, 1, 1>::entry("winograd_4x1_5x1"),       Winograd<8, 5, 8, 5>::parts("winograd_5x5_4x4_parts"),
    Winograd<8, 4, 8, 4>::parts("winograd_4x4_5x5_parts"),
};

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
