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
#include "runs.h"
#include "window_lines.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

using Product = WindowProduct;

// How the product is cut into parts: row blocks that stay in the second-level cache when packed, and, where these are
// too few for the threads, chunks of panels.
struct Cut : RowBlocks, Chunks {
    long packed;  // rows that are packed at a time

    Cut(const Convolution& v, const Product& p, int threads)
        : RowBlocks(p.rows, most_rows(p, caches().second), kRows, v.groups, threads),
          Chunks(panel_count(p.columns), pieces(blocks * v.groups, threads)),
          packed(block_rows) {
        // Weights that fit in the second-level cache are read again for every few rows, which then stay in the first.
        // A part's rows are packed once for all its panels where it has them all.
        const long weight_bytes = packed_columns(p.columns, p.depth) * long(sizeof(float));
        const long near = most_rows(p, caches().first);
        if (chunks == 1 && weight_bytes <= long(caches().second) / 2 && near < packed) packed = near;
    }

    static long most_rows(const Product& p, size_t cache) {
        const long row_bytes = packed_rows(1, p.depth) * long(sizeof(float));
        const long most = long(cache) / 2 / row_bytes / kRows * kRows;
        return most < kRows ? kRows : most;
    }
    // Rows are packed once for each thread that takes some of their panels: where rows can be shared out evenly, their
    // panels are not.
    static long pieces(long shares, int threads) {
        return shares >= threads && shares % threads == 0 ? 1 : (wanted_parts(threads) + shares - 1) / shares;
    }

    long packed_floats(const Product& p) const { return packed_rows(packed, p.depth); }
    static long line_floats(const Product& p) { return round_up(p.depth + kDepth, kDepth); }
    // The number of what is packed, packed rows, a tile of sums, and the lines of one block's windows if they need any.
    long worker_floats(const Product& p) const {
        return kDepth + packed_floats(p) + kRows * kPanel + (p.channels % kDepth ? kRows * line_floats(p) : 0);
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
    const bool packs;

    float* worker(int index) const { return workspace + index * round_up(cut.worker_floats(product), kDepth); }
};

// Packs a window whose channels are whole depth blocks: to is its row in the first block, step the size of a block.
inline void pack_blocks(const Convolution& v, const Window<float>& window, int channels, float* to, long step) {
    for (int r = 0; r < v.r; ++r)
        for (int s = 0; s < v.s; ++s) {
            const float* from = window.tap(r, s);
            for (int c = 0; c < channels; c += kDepth, to += step)
                for (int lane = 0; lane < kDepth; lane += kLanes)
                    store(to + lane, from ? load(from + c + lane) : all(0.0f));
        }
}

// Lines of a block's windows, one after the other, to packed rows. They are gathered all before, since a vector that is
// loaded right after narrower stores to the same place waits for them.
void pack_lines(const float* lines, long line_floats, int rows, long depth, float* to) {
    for (int row = 0; row < rows; ++row, lines += line_floats)
        for (long d = 0; d < depth; d += kDepth)
            for (int lane = 0; lane < kDepth; lane += kLanes)
                store(to + (d * rows + row * kDepth) + lane, load(lines + d + lane));
}

void pack_windows(const Job& job, int group, long first, const Blocks& blocks, float* packed, float* lines) {
    const Convolution& v = job.shape;
    const int channels = job.product.channels;
    const long depth = job.product.depth, line_floats = Cut::line_floats(job.product);
    Window<float> window(v, job.x, v.x_pitch, first, long(group) * channels);
    for (int block = 0; block < blocks.count; ++block) {
        const int begin = blocks.begin(block), rows = blocks.begin(block + 1) - begin;
        float* const to = packed + packed_rows(begin, depth);
        for (int row = 0; row < rows; ++row, window.next()) {
            if (channels % kDepth == 0)
                pack_blocks(v, window, channels, to + row * kDepth, rows * kDepth);
            else
                gather(v, window, channels, lines + row * line_floats);
        }
        if (channels % kDepth) pack_lines(lines, line_floats, rows, depth, to);
    }
}

// Which rows of which group a worker's memory holds; parts that differ only in their panels come one after the other.
struct Held {
    long number;
};

// Whether the rows of the left matrix are the pixels, one after the other.
bool in_order(const Convolution& v) {
    return v.r * v.s == 1 && v.stride_h * v.stride_w == 1 && v.groups == 1 && v.out_h == v.h && v.out_w == v.w &&
           v.pad_top + v.pad_left == 0;
}

// Whether pixels are multiplied where they lie: packing them would be a copy and no more. Pixels whose distance is a
// large power of two share a few lines of the first-level cache, and a tile of them would drive itself out.
bool packs(const Convolution& v) {
    constexpr long kSets = 4096, kMostTogether = 2048;
    const long bytes = v.x_pitch * long(sizeof(float));
    const long together = bytes % kSets == 0 ? kSets : bytes & -bytes;
    return !in_order(v) || together > kMostTogether;
}

// What will be packed next, asked for from memory a few lines at a time while products are computed: a 1x1 kernel with
// stride 1 reads an image once, in order, and its packing would wait for every line.
class Ahead {
  public:
    Ahead(const Job& job, long first, long rows, long tiles) {
        const Convolution& v = job.shape;
        if (!in_order(v) || v.x_pitch != v.c || rows <= 0) return;
        at_ = reinterpret_cast<const char*>(job.x + first * v.c);
        end_ = at_ + rows * v.c * long(sizeof(float));
        step_ = round_up((end_ - at_ + tiles - 1) / tiles, long(kAlignment));
    }
    void ask() {
        for (const char* stop = at_ + step_; at_ < stop && at_ < end_; at_ += kAlignment) __builtin_prefetch(at_, 0, 2);
    }

  private:
    const char *at_ = nullptr, *end_ = nullptr;
    long step_ = 0;
};

// Packed rows times panels `begin` to `end`.
void multiply_rows(const Job& job, int group, long first, const Blocks& blocks, const float* packed, float* tile,
                   int begin_panel, int end_panel, Ahead ahead) {
    const Product& p = job.product;
    const float* const weights = job.weights + group * packed_columns(p.columns, p.depth);
    for (int panel = begin_panel; panel < end_panel; ++panel) {
        const int vectors = panel_vectors(p.columns, panel), pitch = vectors * kLanes;
        const int left = p.columns - panel * kPanel;
        for (int block = 0; block < blocks.count; ++block) {
            const int begin = blocks.begin(block), rows = blocks.begin(block + 1) - begin;
            ahead.ask();
            const float* const panel_weights = weights + p.depth * panel * kPanel;
            if (job.packs)
                multiply_tile(rows, vectors)(packed + packed_rows(begin, p.depth), panel_weights, p.depth, tile, pitch);
            else
                run_tiles.kernel(rows, vectors)(job.x + (first + begin) * job.shape.x_pitch,
                                                Runs{1, p.depth, 0, job.shape.x_pitch}, panel_weights, tile);
            finish_tile(tile, pitch, rows, job.epilogue, job.y, job.shape.y_pitch, first + begin,
                        group * p.columns + panel * kPanel, left < kPanel ? left : kPanel);
        }
    }
}

void multiply_part(void* context, size_t part, int worker) {
    const Job& job = *static_cast<const Job*>(context);
    const Product& p = job.product;
    const Cut& cut = job.cut;
    const long number = long(part) / cut.chunks;
    const int chunk = int(part % cut.chunks), group = int(number % job.shape.groups), panels = panel_count(p.columns);
    const int begin_panel = chunk * cut.chunk_panels, end_panel = begin_panel + cut.chunk_panels;
    const long begin = number / job.shape.groups * cut.block_rows;
    const long end = p.rows - begin < cut.block_rows ? p.rows : begin + cut.block_rows;
    float* const memory = job.worker(worker);
    float* const packed = memory + kDepth;
    float* const tile = packed + cut.packed_floats(p);
    for (long first = begin; first < end; first += cut.packed) {
        const Blocks blocks(int(end - first < cut.packed ? end - first : cut.packed));
        Held held;
        memcpy(&held, memory, sizeof held);
        if (job.packs && (held.number != number || cut.packed < cut.block_rows)) {
            pack_windows(job, group, first, blocks, packed, tile + kRows * kPanel);
            held.number = number;
            memcpy(memory, &held, sizeof held);
        }
        const long next = first + cut.packed, rest = end - next < cut.packed ? end - next : cut.packed;
        multiply_rows(job, group, first, blocks, packed, tile, begin_panel, end_panel < panels ? end_panel : panels,
                      Ahead(job, next, rest, long(panels) * blocks.count));
    }
    end_streams(job.epilogue);
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
    const Epilogue e = stored(epilogue, v, y);
    Job job{v, p, Cut(v, p, threads), x, prepared, y, e, static_cast<float*>(workspace), packs(v)};
    const Held nothing{-1};
    for (int index = 0; index < threads; ++index) memcpy(job.worker(index), &nothing, sizeof nothing);
    parallel_parts(size_t(job.cut.blocks * v.groups * job.cut.chunks), threads, multiply_part, &job);
}

}  // namespace

const ConvolutionAlgorithm kGemm = {"gemm", supports, prepared_floats, prepare, workspace_bytes, run};

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
