// Convolution as a matrix product with one level of Strassen's algorithm: 7 products of half the size instead of 8.
// Takes every kernel, stride, dilation and padding, without groups. Compiled once per instruction set.
//
// The level lies inside the blocks of convolution_gemm.cc: of 28 rows, the upper and the lower 14; of the depth and of
// the outputs, both halves. The seven left factors are made while windows are packed, the right ones when weights are
// prepared, and the four results from seven tiles in the first-level cache: no matrix is read or written once more.
// What remains of the eighth that is saved: packing writes 7 / 4 of the numbers, and weights are 7 / 4 as many.
// Strassen 1969, Gaussian Elimination is not Optimal; Huang et al. 2016, Strassen's Algorithm Reloaded (additions
// within the packing).
#include "convolution_levels.h"
#include "finish.h"
#include "gemm.h"
#include "parts.h"
#include "window_lines.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

constexpr int kProducts = 7;
constexpr long kTile = long(kRows) * kPanel;

struct Product : WindowProduct {
    long half;  // of the depth, a multiple of kDepth; the second one is filled up with zeros
    int pairs;  // a panel of the first half of the outputs and one of the second

    explicit Product(const Convolution& v)
        : WindowProduct(v), half(round_up((depth + 1) / 2, kDepth)), pairs((panel_count(columns) + 1) / 2) {}

    long pair_floats() const { return kProducts * half * kPanel; }
    // Floats of the seven left factors of so many rows.
    long packed_floats(long count) const { return kProducts * packed_rows((count + 1) / 2, half); }
};

// All rows cut into pairs of an upper and a lower block. Which rows make a pair must not depend on the threads: what is
// added to a row and taken off again leaves its rounding.
using Pairs = Tiles<2 * kRows>;

// How the pairs are cut into parts, as rows in convolution_gemm.cc.
struct Cut : RowBlocks, Chunks {
    Pairs rows;

    Cut(const Product& p, int threads)
        : RowBlocks(Pairs(int(p.rows)).count, most_pairs(p), 1, 1, threads),
          Chunks(p.pairs, (wanted_parts(threads) + blocks - 1) / blocks),
          rows(int(p.rows)) {}

    static long most_pairs(const Product& p) {
        const long most = long(caches().second) / 2 / (p.packed_floats(2 * kRows) * long(sizeof(float)));
        return most < 1 ? 1 : most;
    }
    static long line_floats(const Product& p) { return 2 * p.half + kDepth; }
    long packed_floats(const Product& p) const { return block_rows * p.packed_floats(2 * kRows); }
    long worker_floats(const Product& p) const { return packed_floats(p) + kProducts * kTile + 2 * line_floats(p); }
};

struct Job {
    const Convolution& shape;
    const Product product;
    const Cut cut;
    const float* x;
    const float* weights;
    float* y;
    const Epilogue& epilogue;
    float* workers;
};

// The window as adjacent floats, zeros after them: where it lies, if it does, else gathered into the line.
const float* line_of(const Product& p, const Convolution& v, const Window<float>& window, float* line) {
    if (p.depth == v.c && p.depth == 2 * p.half && window.holds_all()) return window.tap(0, 0);
    gather(v, window, v.c, line);
    clear_floats(line + p.depth, 2 * p.half - p.depth);
    return line;
}

// The seven left factors of an upper and a lower row, `step` floats from factor to factor.
void pack_pair(const float* upper, const float* lower, long half, long block, float* to, long step) {
    for (long d = 0; d < half; d += kDepth, to += block)
        for (int lane = 0; lane < kDepth; lane += kLanes) {
            const F a11 = load(upper + d + lane), a12 = load(upper + half + d + lane);
            const F a21 = load(lower + d + lane), a22 = load(lower + half + d + lane);
            const F factors[kProducts] = {a11 + a22, a21 + a22, a11, a22, a11 + a12, a21 - a11, a12 - a22};
#pragma GCC unroll 8
            for (int product = 0; product < kProducts; ++product) store(to + product * step + lane, factors[product]);
        }
}

// Packs `count` pairs of rows from number `first` on, the factors of one after those of the other.
void pack_pairs(const Job& job, long first, long count, float* packed, float* lines) {
    const Convolution& v = job.shape;
    const Product& p = job.product;
    for (long pair = first; pair < first + count; ++pair) {
        const int begin = job.cut.rows.begin(int(pair)), rows = job.cut.rows.begin(int(pair) + 1) - begin;
        const int upper = (rows + 1) / 2;
        Window<float> high(v, job.x, v.x_pitch, begin, 0), low(v, job.x, v.x_pitch, begin + rows / 2, 0);
        if (rows % 2) low.next();
        for (int row = 0; row < upper; ++row, high.next()) {
            const float* const a = line_of(p, v, high, lines);
            const float* b = a;  // in place of the lower row that an odd number lacks
            if (upper + row < rows) {
                b = line_of(p, v, low, lines + Cut::line_floats(p));
                low.next();
            }
            pack_pair(a, b, p.half, long(upper) * kDepth, packed + row * kDepth, packed_rows(upper, p.half));
        }
        packed += kProducts * packed_rows(upper, p.half);
    }
}

// The four results of a pair of rows and panels, in place of the first four of seven tiles.
void combine(float* tiles, int rows) {
    for (long i = 0; i < long(rows) * kPanel; i += kLanes) {
        F m[kProducts];
#pragma GCC unroll 8
        for (int product = 0; product < kProducts; ++product) m[product] = load(tiles + product * kTile + i);
        store(tiles + i, m[0] + m[3] - m[4] + m[6]);
        store(tiles + kTile + i, m[2] + m[4]);
        store(tiles + 2 * kTile + i, m[1] + m[3]);
        store(tiles + 3 * kTile + i, m[0] - m[1] + m[2] + m[5]);
    }
}

void multiply_part(void* context, size_t part, int worker) {
    const Job& job = *static_cast<const Job*>(context);
    const Product& p = job.product;
    const Cut& cut = job.cut;
    const int chunk = int(part % cut.chunks), end = (chunk + 1) * cut.chunk_panels;
    const long first = long(part) / cut.chunks * cut.block_rows;
    const long count = cut.rows.count - first < cut.block_rows ? cut.rows.count - first : cut.block_rows;
    float* const packed = job.workers + worker * round_up(cut.worker_floats(p), kDepth);
    float* const tiles = packed + cut.packed_floats(p);
    pack_pairs(job, first, count, packed, tiles + kProducts * kTile);
    for (int panels = chunk * cut.chunk_panels; panels < end && panels < p.pairs; ++panels) {
        const float* left = packed;
        for (long pair = first; pair < first + count; ++pair) {
            const int begin = cut.rows.begin(int(pair)), rows = cut.rows.begin(int(pair) + 1) - begin;
            const int upper = (rows + 1) / 2;
            for (int product = 0; product < kProducts; ++product, left += packed_rows(upper, p.half))
                multiply_tile(upper, kVectors)(left, job.weights + panels * p.pair_floats() + product * p.half * kPanel,
                                               p.half, tiles + product * kTile, kPanel);
            combine(tiles, upper);
            for (int result = 0; result < 4; ++result) {
                const int channel = (panels + (result % 2 ? p.pairs : 0)) * kPanel, columns = p.columns - channel;
                if (columns > 0)
                    finish_tile(tiles + result * kTile, kPanel, result < 2 ? upper : rows - upper, job.epilogue, job.y,
                                job.shape.y_pitch, begin + (result < 2 ? 0 : upper), channel,
                                columns < kPanel ? columns : kPanel);
            }
        }
    }
    end_streams(job.epilogue);
}

// With fewer outputs or a shorter depth a half would be empty.
bool supports(const Convolution& v) { return v.groups == 1 && v.k > kLanes && long(v.r) * v.s * v.c >= 2 * kDepth; }

size_t prepared_floats(const Convolution& v) {
    const Product p(v);
    return size_t(p.pairs * p.pair_floats());
}

// Weights as [pair][product][d][column].
void prepare(const Convolution& v, const float* w_kcrs, float* prepared) {
    const Product p(v);
    const long taps = long(v.r) * v.s;
    const auto weight = [&](long d, long column) {
        return d < p.depth && column < p.columns ? w_kcrs[(column * v.c + d % v.c) * taps + d / v.c] : 0.0f;
    };
    for (int pair = 0; pair < p.pairs; ++pair)
        for (long d = 0; d < p.half; ++d)
            for (int j = 0; j < kPanel; ++j) {
                const long left = long(pair) * kPanel + j, right = left + long(p.pairs) * kPanel;
                const float b11 = weight(d, left), b12 = weight(d, right);
                const float b21 = weight(p.half + d, left), b22 = weight(p.half + d, right);
                const float factors[kProducts] = {b11 + b22, b11, b12 - b22, b21 - b11, b22, b11 + b12, b21 + b22};
                for (int product = 0; product < kProducts; ++product)
                    prepared[pair * p.pair_floats() + d * kPanel + j + product * p.half * kPanel] = factors[product];
            }
}

size_t workspace_bytes(const Convolution& v, int threads) {
    const Product p(v);
    return size_t(round_up(Cut(p, threads).worker_floats(p), kDepth)) * size_t(threads) * sizeof(float);
}

void run(const Convolution& v, const float* x, const float* prepared, float* y, const Epilogue& epilogue,
         void* workspace, int threads) {
    const Product p(v);
    if (p.rows == 0) return;
    const Epilogue e = stored(epilogue, v, y);
    Job job{v, p, Cut(p, threads), x, prepared, y, e, static_cast<float*>(workspace)};
    parallel_parts(size_t(job.cut.blocks * job.cut.chunks), threads, multiply_part, &job);
}

}  // namespace

const ConvolutionAlgorithm kStrassen = {"strassen", supports, prepared_floats, prepare, workspace_bytes, run};

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
