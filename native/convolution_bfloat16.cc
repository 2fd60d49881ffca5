// Convolution as an implicit matrix product of bfloat16 numbers with float32 sums (VDPBF16PS): image and weights are
// rounded to nearest, two products are added at once. Compiled for processors that have the instruction only.
//
// Packed as integer_gemm.cc packs bytes: windows in runs of 32 numbers, run[pixel][32], and panels[pair][column][2].
#include "finish.h"
#include "gemm.h"
#include "parts.h"
#include "tile_sums.h"
#include "window_lines.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {

extern const ConvolutionAlgorithm kBfloat16Gemm;

namespace {

constexpr int kRun = 32;

struct Product : WindowProduct {
    using WindowProduct::WindowProduct;

    long pairs() const { return (depth + 1) / 2; }
    int runs() const { return int((depth + kRun - 1) / kRun); }
    int panels() const { return panel_count(columns); }
    int vectors(int panel) const { return panel_vectors(columns, panel); }
    // Numbers of all panels of a group.
    long panel_numbers() const { return packed_columns(columns, pairs() * 2); }
};

// How the product is cut into parts, as in convolution_gemm.cc.
struct Cut : RowBlocks, Chunks {
    Cut(const Convolution& v, const Product& p, int threads)
        : RowBlocks(p.rows, most_rows(p), kRows, v.groups, threads),
          Chunks(p.panels(), (wanted_parts(threads) + blocks * v.groups - 1) / (blocks * v.groups)) {}

    static long most_rows(const Product& p) {
        const long most = long(caches().second) / 2 / (p.runs() * kRun * 2) / kRows * kRows;
        return most < kRows ? kRows : most;
    }

    // Numbers from one run to the next: an odd number of cache lines.
    long run_step() const { return (block_rows | 1) * kRun; }
    // Floats of a worker: packed rows, and a line of one window.
    long worker_floats(const Product& p) const { return p.runs() * run_step() / 2 + (p.runs() + 1L) * kRun; }
};

struct Job {
    const Convolution& shape;
    const Product product;
    const Cut cut;
    const float* x;
    const uint16_t* weights;
    float* y;
    const Epilogue& epilogue;
    float* workers;
};

inline __m256i rounded(F v) { return (__m256i)_mm512_cvtneps_pbh((__m512)v); }

inline void store_rounded(uint16_t* to, F v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), rounded(v)); }

template <int R, int V>
inline void add_pair(F (&sums)[R][V], const uint16_t* a, const uint16_t* b) {
    __m512i right[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) right[v] = _mm512_loadu_si512(b + v * 2 * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
        int32_t two;
        memcpy(&two, a + r * kRun, sizeof two);
        const __m512bh left = (__m512bh)_mm512_set1_epi32(two);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) sums[r][v] = (F)_mm512_dpbf16_ps((__m512)sums[r][v], left, (__m512bh)right[v]);
    }
}

using MultiplyPairs = void (*)(const uint16_t* a, long step, long pairs, const uint16_t* b, float* tile);

template <int R, int V>
void multiply(const uint16_t* a, long step, long pairs, const uint16_t* b, float* tile) {
    F sums[R][V] = {};
    for (; pairs > 0; pairs -= kRun / 2, a += step) {
        const int count = pairs < kRun / 2 ? int(pairs) : kRun / 2;
        int d = 0;
        for (; d + 4 <= count; d += 4) {
#pragma GCC unroll 4
            for (int i = 0; i < 4; ++i, b += V * 2 * kLanes) add_pair<R, V>(sums, a + (d + i) * 2, b);
        }
        for (; d < count; ++d, b += V * 2 * kLanes) add_pair<R, V>(sums, a + d * 2, b);
    }
    store_tile(tile, V * kLanes, sums);
}

struct Kernels {
    template <int R, int V>
    static constexpr MultiplyPairs kernel = multiply<R, V>;
};

constexpr TileTable<MultiplyPairs, kRows, kVectors, Kernels> tiles;

// Packs a window whose channels are whole vectors: `to` is its row in the first run, `step` from run to run.
void pack_vectors(const Convolution& v, const Window<float>& window, int channels, uint16_t* to, long step) {
    int place = 0;
    for (int r = 0; r < v.r; ++r)
        for (int s = 0; s < v.s; ++s) {
            const float* const from = window.tap(r, s);
            for (int c = 0; c < channels; c += kLanes) {
                store_rounded(to + place, from ? load(from + c) : all(0.0f));
                place += kLanes;
                if (place == kRun) {
                    place = 0;
                    to += step;
                }
            }
        }
}

void pack_windows(const Job& job, int group, long first, int rows, uint16_t* packed, float* line) {
    const Convolution& v = job.shape;
    const Product& p = job.product;
    const long step = job.cut.run_step();
    Window<float> window(v, job.x, v.x_pitch, first, long(group) * p.channels);
    for (int row = 0; row < rows; ++row, window.next()) {
        uint16_t* const to = packed + row * kRun;
        if (p.channels % kLanes == 0) {
            pack_vectors(v, window, p.channels, to, step);
            continue;
        }
        // A last single number pairs with a zero; the rest of the run is not read.
        gather(v, window, p.channels, line);
        clear_floats(line + p.depth, long(p.runs()) * kRun - p.depth);
        for (int run = 0; run < p.runs(); ++run)
            for (int lane = 0; lane < kRun; lane += kLanes)
                store_rounded(to + run * step + lane, load(line + run * kRun + lane));
    }
}

void multiply_part(void* context, size_t part, int worker) {
    const Job& job = *static_cast<const Job*>(context);
    const Product& p = job.product;
    const Cut& cut = job.cut;
    const int chunk = int(part % cut.chunks), group = int(part / cut.chunks % job.shape.groups);
    const long first = long(part / cut.chunks / job.shape.groups) * cut.block_rows;
    const Blocks rows(int(p.rows - first < cut.block_rows ? p.rows - first : cut.block_rows));
    float* const memory = job.workers + worker * round_up(cut.worker_floats(p), kLanes);
    uint16_t* const packed = reinterpret_cast<uint16_t*>(memory);
    pack_windows(job, group, first, rows.rows, packed, memory + p.runs() * cut.run_step() / 2);

    const uint16_t* const weights = job.weights + group * p.panel_numbers();
    float tile[kRows * kPanel];
    const int end = (chunk + 1) * cut.chunk_panels;
    for (int panel = chunk * cut.chunk_panels; panel < end && panel < p.panels(); ++panel)
        for (int block = 0; block < rows.count; ++block) {
            const int begin = rows.begin(block), size = rows.begin(block + 1) - begin;
            const int vectors = p.vectors(panel);
            tiles.kernel(size, vectors)(packed + begin * kRun, cut.run_step(), p.pairs(),
                                        weights + long(panel) * kPanel * p.pairs() * 2, tile);
            const int left = p.columns - panel * kPanel;
            finish_tile(tile, vectors * kLanes, size, job.epilogue, job.y, job.shape.y_pitch, first + begin,
                        group * p.columns + panel * kPanel, left < kPanel ? left : kPanel);
        }
}

bool supports(const Convolution&) { return true; }

size_t prepared_floats(const Convolution& v) { return size_t((v.groups * Product(v).panel_numbers() + 1) / 2); }

uint16_t rounded_number(float number) {
    const __m128i two = (__m128i)_mm_cvtneps_pbh(_mm_set_ss(number));
    return uint16_t(_mm_extract_epi16(two, 0));
}

void prepare(const Convolution& v, const float* w_kcrs, float* prepared) {
    const Product p(v);
    const long taps = long(v.r) * v.s;
    uint16_t* to = reinterpret_cast<uint16_t*>(prepared);
    for (int group = 0; group < v.groups; ++group)
        for (int panel = 0; panel < p.panels(); ++panel)
            for (long pair = 0; pair < p.pairs(); ++pair)
                for (int j = 0; j < p.vectors(panel) * kLanes; ++j)
                    for (long place = pair * 2; place < pair * 2 + 2; ++place) {
                        const int column = panel * kPanel + j;
                        const long k = long(group) * p.columns + column;
                        const long c = place % p.channels, tap = place / p.channels;
                        const bool there = column < p.columns && place < p.depth;
                        *to++ = there ? rounded_number(w_kcrs[(k * p.channels + c) * taps + tap]) : uint16_t(0);
                    }
}

size_t workspace_bytes(const Convolution& v, int threads) {
    const Product p(v);
    return size_t(round_up(Cut(v, p, threads).worker_floats(p), kLanes)) * size_t(threads) * sizeof(float);
}

void run(const Convolution& v, const float* x, const float* prepared, float* y, const Epilogue& epilogue,
         void* workspace, int threads) {
    const Product p(v);
    if (p.rows == 0) return;
    Job job{v,
            p,
            Cut(v, p, threads),
            x,
            reinterpret_cast<const uint16_t*>(prepared),
            y,
            epilogue,
            static_cast<float*>(workspace)};
    parallel_parts(size_t(job.cut.blocks * v.groups * job.cut.chunks), threads, multiply_part, &job);
}

}  // namespace

const ConvolutionAlgorithm kBfloat16Gemm = {"gemm_bfloat16", supports, prepared_floats, prepare, workspace_bytes, run};

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
