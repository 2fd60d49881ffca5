// Convolution as a matrix product without its matrix: the windows of a few pixels at a time are packed into the cache
// (implicit GEMM). Takes every kernel, stride, dilation, padding and group; a 1x1 kernel is a plain product.
// Compiled once per instruction set.
//
// The idea: Dukhan 2019, The Indirect Convolution Algorithm, arXiv 1907.02129; packing instead of pointers because the
// packed rows are read once for every panel of output channels.
#include "convolution_levels.h"
#include "finish.h"
#include "gemm.h"
#include "parts.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

// The matrix product of one group: `rows` output pixels, `columns` output channels, `depth` products a sum.
struct Product {
    long rows, depth;
    int columns, channels;

    explicit Product(const Convolution& v)
        : rows(long(v.n) * v.out_h * v.out_w),
          depth(long(v.r) * v.s * (v.c / v.groups)),
          columns(v.k / v.groups),
          channels(v.c / v.groups) {}
};

// How the product is cut into parts: row blocks that stay in the second-level cache when packed, and, where these are
// too few for the threads, chunks of panels.
struct Cut {
    long block_rows, blocks;
    int chunk_panels, chunks;

    Cut(const Convolution& v, const Product& p, int threads) {
        const long row_bytes = packed_rows(1, p.depth) * long(sizeof(float));
        long most = long(caches().second) / 2 / row_bytes / kRows * kRows;
        if (most < kRows) most = kRows;
        const long wanted = threads > 1 ? 4L * threads : 1;
        blocks = (p.rows + most - 1) / most;
        if (blocks * v.groups < wanted) {
            // Below about 4 tiles of rows the panels would come too often from the third-level cache.
            const long useful = (p.rows + 4 * kRows - 1) / (4 * kRows);
            const long more = (wanted + v.groups - 1) / v.groups;
            blocks = blocks > useful ? blocks : more < useful ? more : useful;
        }
        if (blocks > threads && blocks < 8 * threads) blocks = round_up(blocks, threads);
        block_rows = (p.rows + blocks - 1) / blocks;
        blocks = (p.rows + block_rows - 1) / block_rows;
        const int panels = panel_count(p.columns);
        const long pieces = (wanted + blocks * v.groups - 1) / (blocks * v.groups);
        chunks = pieces < panels ? int(pieces) : panels;
        chunk_panels = (panels + chunks - 1) / chunks;
        chunks = (panels + chunk_panels - 1) / chunk_panels;
    }

    long packed_floats(const Product& p) const { return packed_rows(block_rows, p.depth); }
    // A line of one window, and a tile of sums.
    long worker_floats(const Product& p) const {
        return packed_floats(p) + round_up(p.depth + kDepth, kDepth) + kRows * kPanel;
    }
};

struct Job {
    const Convolution& shape;
    const Product product;
    const Cut cut;
    const float* x;
    const float* weights;
    float* y;
    const Epilogue& epilogue;
    float* workspace;
};

// The window of one output pixel in one group.
struct Window {
    const float* image;
    int top, left;

    Window(const Convolution& v, const float* x, long pixel, int first_channel) {
        const long area = long(v.out_h) * v.out_w, n = pixel / area;
        const int row = int(pixel % area / v.out_w), column = int(pixel % v.out_w);
        image = x + n * v.h * v.w * v.x_pitch + first_channel;
        top = row * v.stride_h - v.pad_top;
        left = column * v.stride_w - v.pad_left;
    }

    // Null where the tap lies in the padding.
    const float* tap(const Convolution& v, int r, int s) const {
        const int row = top + r * v.dilation_h, column = left + s * v.dilation_w;
        if (row < 0 || row >= v.h || column < 0 || column >= v.w) return nullptr;
        return image + (long(row) * v.w + column) * v.x_pitch;
    }

    bool holds_row(const Convolution& v, int r) const {
        const int row = top + r * v.dilation_h;
        return row >= 0 && row < v.h && left >= 0 && left + v.s <= v.w;
    }
};

// Packs a window whose channels are whole depth blocks: to is its row in the first block, step the size of a block.
inline void pack_blocks(const Convolution& v, const Window& window, int channels, float* to, long step) {
    for (int r = 0; r < v.r; ++r)
        for (int s = 0; s < v.s; ++s) {
            const float* from = window.tap(v, r, s);
            for (int c = 0; c < channels; c += kDepth, to += step)
                for (int lane = 0; lane < kDepth; lane += kLanes)
                    store(to + lane, from ? load(from + c + lane) : all(0.0f));
        }
}

// Copies `count` floats; may write up to kLanes - 1 zeros after them.
inline void copy_floats(float* to, const float* from, long count) {
    for (; count >= kLanes; count -= kLanes, to += kLanes, from += kLanes) store(to, load(from));
    if (count > 0) store(to, load_part(from, int(count)));
}

inline void clear_floats(float* to, long count) {
    for (long i = 0; i < count; ++i) to[i] = 0.0f;
}

// Gathers any window into the line.
inline void gather(const Convolution& v, const Window& window, int channels, float* line) {
    const bool whole_rows = v.dilation_w == 1 && v.x_pitch == channels;
    for (int r = 0; r < v.r; ++r) {
        if (whole_rows && window.holds_row(v, r)) {
            copy_floats(line, window.tap(v, r, 0), long(v.s) * channels);
            line += long(v.s) * channels;
            continue;
        }
        for (int s = 0; s < v.s; ++s, line += channels) {
            const float* from = window.tap(v, r, s);
            if (from)
                copy_floats(line, from, channels);
            else
                clear_floats(line, channels);
        }
    }
}

void pack_windows(const Job& job, int group, long first, const Blocks& blocks, float* packed, float* line) {
    const Convolution& v = job.shape;
    const int channels = job.product.channels;
    const long depth = job.product.depth;
    for (int block = 0; block < blocks.count; ++block) {
        const int begin = blocks.begin(block), rows = blocks.begin(block + 1) - begin;
        float* const to = packed + packed_rows(begin, depth);
        for (int row = 0; row < rows; ++row) {
            const Window window(v, job.x, first + begin + row, group * channels);
            if (channels % kDepth == 0) {
                pack_blocks(v, window, channels, to + row * kDepth, rows * kDepth);
                continue;
            }
            gather(v, window, channels, line);
            for (long d = 0; d < depth; d += kDepth)
                for (int lane = 0; lane < kDepth; lane += kLanes)
                    store(to + (d * rows + row * kDepth) + lane, load(line + d + lane));
        }
    }
}

void multiply_part(void* context, size_t part, int worker) {
    const Job& job = *static_cast<const Job*>(context);
    const Product& p = job.product;
    const Cut& cut = job.cut;
    const int chunk = int(part % cut.chunks), group = int(part / cut.chunks % job.shape.groups);
    const long first = long(part / cut.chunks / job.shape.groups) * cut.block_rows;
    const Blocks blocks(int(p.rows - first < cut.block_rows ? p.rows - first : cut.block_rows));
    float* const packed = job.workspace + worker * round_up(cut.worker_floats(p), kDepth);
    float* const tile = packed + cut.packed_floats(p);
    float* const line = tile + kRows * kPanel;
    pack_windows(job, group, first, blocks, packed, line);

    const float* const weights = job.weights + group * packed_columns(p.columns, p.depth);
    const int panels = panel_count(p.columns), end = (chunk + 1) * cut.chunk_panels;
    for (int panel = chunk * cut.chunk_panels; panel < end && panel < panels; ++panel) {
        const int vectors = panel_vectors(p.columns, panel), pitch = vectors * kLanes;
        for (int block = 0; block < blocks.count; ++block) {
            const int begin = blocks.begin(block), rows = blocks.begin(block + 1) - begin;
            multiply_tile(rows, vectors)(packed + packed_rows(begin, p.depth), weights + p.depth * panel * kPanel,
                                         p.depth, tile, pitch);
            for (int row = 0; row < rows; ++row)
                for (int vector = 0; vector < vectors; ++vector) {
                    const int column = panel * kPanel + vector * kLanes;
                    finish(load(tile + row * pitch + vector * kLanes), job.epilogue, job.y, job.shape.y_pitch,
                           first + begin + row, group * p.columns + column, p.columns - column);
                }
        }
    }
}

bool supports(const Convolution&) { return true; }

size_t prepared_floats(const Convolution& v) {
    const Product p(v);
    return size_t(v.groups * packed_columns(p.columns, p.depth));
}

void prepare(const Convolution& v, const float* w_kcrs, float* prepared) {
    const Product p(v);
    const long taps = long(v.r) * v.s;
    for (int group = 0; group < v.groups; ++group)
        for (int panel = 0; panel < panel_count(p.columns); ++panel) {
            const int width = panel_vectors(p.columns, panel) * kLanes;
            for (long tap = 0; tap < taps; ++tap)
                for (int c = 0; c < p.channels; ++c)
                    for (int j = 0; j < width; ++j) {
                        const int column = panel * kPanel + j;
                        const long k = long(group) * p.columns + column;
                        *prepared++ = column < p.columns ? w_kcrs[(k * p.channels + c) * taps + tap] : 0.0f;
                    }
        }
}

size_t workspace_bytes(const Convolution& v, int threads) {
    const Product p(v);
    return size_t(round_up(Cut(v, p, threads).worker_floats(p), kDepth)) * size_t(threads) * sizeof(float);
}

void run(const Convolution& v, const float* x, const float* prepared, float* y, const Epilogue& epilogue,
         void* workspace, int threads) {
    const Product p(v);
    if (p.rows == 0) return;
    Job job{v, p, Cut(v, p, threads), x, prepared, y, epilogue, static_cast<float*>(workspace)};
    parallel_parts(size_t(job.cut.blocks * v.groups * job.cut.chunks), threads, multiply_part, &job);
}

}  // namespace

const ConvolutionAlgorithm kGemm = {"gemm", supports, prepared_floats, prepare, workspace_bytes, run};

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
