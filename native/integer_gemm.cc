// Convolution of codes as a matrix product without its matrix: windows of a few pixels are packed into the cache, a
// kernel of any size, stride, dilation, padding and group. Compiled once per instruction set.
//
// The idea as in convolution_gemm.cc. Left factors are bytes without sign, packed by blocks of rows:
// block[d / kRun][row][d % kRun]; right factors signed bytes, panel[d / 4][column][d % 4], so that one instruction
// multiplies four of each lane (VPDPBUSD where there is VNNI). Signed images become unsigned by adding 128; what that
// and the zero point add to every sum is 128 or zero times the sum of the weights, and goes into the bias.
#include "integer_lanes.h"
#include "integer_levels.h"
#include "parts.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

constexpr int kRun = 64;
#if defined(__AVX512VNNI__)
// 28 sums, 2 vectors of the panel and 1 spread element fill the 32 registers.
constexpr int kRows = 14;
#elif defined(__AVX512F__)
// 24 sums, 4 halves of the panel, 2 of the spread element.
constexpr int kRows = 12;
#else
constexpr int kRows = 4;
#endif
constexpr int kVectors = 2;
constexpr int kPanel = kVectors * kLanes;

constexpr long round_up(long n, long unit) { return (n + unit - 1) / unit * unit; }

// The matrix product of one group.
struct Product {
    long rows, depth;
    int columns, channels;

    explicit Product(const Convolution& v)
        : rows(long(v.n) * v.out_h * v.out_w),
          depth(long(v.r) * v.s * (v.c / v.groups)),
          columns(v.k / v.groups),
          channels(v.c / v.groups) {}

    long fours() const { return (depth + 3) / 4; }
    long row_bytes() const { return round_up(depth, kRun); }
    int panels() const { return (columns + kPanel - 1) / kPanel; }
    int panel_vectors(int panel) const {
        const int left = columns - panel * kPanel;
        return left >= kPanel ? kVectors : (left + kLanes - 1) / kLanes;
    }
    long panel_bytes(long width) const { return width * fours() * 4; }
    long group_bytes() const { return panel_bytes(round_up(columns, kLanes)); }
};

// Rows split into blocks of nearly equal size, so that no block is too small to hide the latency of its sums.
struct Blocks {
    int rows, count;

    explicit Blocks(int n) : rows(n), count((n + kRows - 1) / kRows) {}
    int begin(int block) const { return int(long(rows) * block / count); }
};

// How the product is cut into parts: see Cut of convolution_gemm.cc.
struct Cut {
    long block_rows, blocks;
    int chunk_panels, chunks;

    Cut(const Convolution& v, const Product& p, int threads) {
        long most = long(caches().second) / 2 / p.row_bytes() / kRows * kRows;
        if (most < kRows) most = kRows;
        const long wanted = threads > 1 ? 4L * threads : 1;
        blocks = (p.rows + most - 1) / most;
        if (blocks * v.groups < wanted) {
            const long useful = (p.rows + 4 * kRows - 1) / (4 * kRows);
            const long more = (wanted + v.groups - 1) / v.groups;
            blocks = blocks > useful ? blocks : more < useful ? more : useful;
        }
        if (blocks > threads && blocks < 8 * threads) blocks = round_up(blocks, threads);
        block_rows = (p.rows + blocks - 1) / blocks;
        blocks = (p.rows + block_rows - 1) / block_rows;
        const long pieces = (wanted + blocks * v.groups - 1) / (blocks * v.groups);
        const int panels = p.panels();
        chunks = pieces < panels ? int(pieces) : panels;
        chunk_panels = (panels + chunks - 1) / chunks;
        chunks = (panels + chunk_panels - 1) / chunk_panels;
    }

    // Packed rows, a line of one window with room for a vector more, and a tile of sums.
    long worker_bytes(const Product& p) const {
        return (block_rows + 1) * p.row_bytes() + 2 * kRun + long(sizeof(int32_t)) * kRows * kPanel;
    }
};

struct Job {
    const Convolution& shape;
    const Product product;
    const Cut cut;
    const uint8_t* x;
    uint8_t fill, flip;
    const int8_t* weights;
    const Finish finish;
    char* workers;
};

using Multiply = void (*)(const uint8_t* a, const int8_t* b, long fours, int32_t* c);

template <int R, int V>
inline void add_four(I (&sums)[R][V], const uint8_t* a, const int8_t* b) {
    Right right[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) right[v] = columns(b + v * 4 * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
        const Left left = spread(a + r * kRun);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) sums[r][v] = add_products(sums[r][v], left, right[v]);
    }
}

// c[row][column] = the sum of all products.
template <int R, int V>
void multiply(const uint8_t* a, const int8_t* b, long fours, int32_t* c) {
    constexpr int kFours = kRun / 4;
    I sums[R][V] = {};
    for (; fours >= kFours; fours -= kFours, a += R * kRun) {
#pragma GCC unroll 4
        for (int d = 0; d < kFours; ++d, b += V * 4 * kLanes) add_four<R, V>(sums, a + d * 4, b);
    }
    for (int d = 0; d < fours; ++d, b += V * 4 * kLanes) add_four<R, V>(sums, a + d * 4, b);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) store_sums(c + (r * V + v) * kLanes, sums[r][v]);
    }
}

template <int R>
constexpr void fill_table(Multiply (&table)[kRows][kVectors]) {
    table[R - 1][0] = multiply<R, 1>;
    table[R - 1][1] = multiply<R, 2>;
    if constexpr (R > 1) fill_table<R - 1>(table);
}

struct Tiles {
    Multiply table[kRows][kVectors] = {};
    constexpr Tiles() { fill_table<kRows>(table); }
};

static_assert(kVectors == 2, "the table holds tiles of one and of two vectors");
constexpr Tiles tiles;

// The window of one output pixel in one group.
struct Window {
    const uint8_t* image;
    int top, left;

    Window(const Convolution& v, const uint8_t* x, long pixel, int first_channel) {
        const long area = long(v.out_h) * v.out_w, n = pixel / area;
        const int row = int(pixel % area / v.out_w), column = int(pixel % v.out_w);
        image = x + n * v.h * v.w * v.x_pitch + first_channel;
        top = row * v.stride_h - v.pad_top;
        left = column * v.stride_w - v.pad_left;
    }

    // Null where the tap lies in the padding.
    const uint8_t* tap(const Convolution& v, int r, int s) const {
        const int row = top + r * v.dilation_h, column = left + s * v.dilation_w;
        if (row < 0 || row >= v.h || column < 0 || column >= v.w) return nullptr;
        return image + (long(row) * v.w + column) * v.x_pitch;
    }

    bool holds_row(const Convolution& v, int r) const {
        const int row = top + r * v.dilation_h;
        return row >= 0 && row < v.h && left >= 0 && left + v.s <= v.w;
    }
};

// Bytes that are copied at once: a whole run, or a quarter of one.
typedef uint8_t Whole __attribute__((vector_size(kRun)));
typedef uint8_t Quarter __attribute__((vector_size(kRun / 4)));

template <class Vector>
inline Vector read(const uint8_t* at) {
    Vector v;
    memcpy(&v, at, sizeof v);
    return v;
}

template <class Vector>
inline void write(uint8_t* at, Vector v) {
    memcpy(at, &v, sizeof v);
}

// Packs a window whose channels are whole vectors: `to` is its row in the first run, `step` the size of a run of all
// rows.
template <class Vector>
void pack_vectors(const Job& job, const Window& window, uint8_t* to, long step) {
    const Convolution& v = job.shape;
    constexpr int kSize = int(sizeof(Vector));
    const Vector flip = job.flip - Vector{}, empty = uint8_t(job.fill ^ job.flip) - Vector{};
    int place = 0;
    for (int r = 0; r < v.r; ++r)
        for (int s = 0; s < v.s; ++s) {
            const uint8_t* const from = window.tap(v, r, s);
            for (int c = 0; c < job.product.channels; c += kSize) {
                write<Vector>(to + place, from ? read<Vector>(from + c) ^ flip : empty);
                place += kSize;
                if (place == kRun) {
                    place = 0;
                    to += step;
                }
            }
        }
}

// Copies `count` bytes; may write up to kRun - 1 more.
inline void copy_bytes(uint8_t* to, const uint8_t* from, long count) {
#if defined(__AVX512BW__)
    for (; count >= 64; count -= 64, to += 64, from += 64) _mm512_storeu_si512(to, _mm512_loadu_si512(from));
    if (count > 0) _mm512_storeu_si512(to, _mm512_maskz_loadu_epi8((__mmask64(1) << count) - 1, from));
#else
    for (; count >= 16; count -= 16, to += 16, from += 16) write<Quarter>(to, read<Quarter>(from));
    for (long i = 0; i < count; ++i) to[i] = from[i];
#endif
}

inline void fill_bytes(uint8_t* to, uint8_t value, long count) {
    for (long i = 0; i < count; ++i) to[i] = value;
}

// Gathers any window into the line.
void gather(const Job& job, const Window& window, uint8_t* line) {
    const Convolution& v = job.shape;
    const int channels = job.product.channels;
    const bool whole_rows = v.dilation_w == 1 && v.x_pitch == channels;
    for (int r = 0; r < v.r; ++r) {
        if (whole_rows && window.holds_row(v, r)) {
            copy_bytes(line, window.tap(v, r, 0), long(v.s) * channels);
            line += long(v.s) * channels;
            continue;
        }
        for (int s = 0; s < v.s; ++s, line += channels) {
            const uint8_t* from = window.tap(v, r, s);
            if (from)
                copy_bytes(line, from, channels);
            else
                fill_bytes(line, job.fill, channels);
        }
    }
}

void pack_windows(const Job& job, int group, long first, const Blocks& blocks, uint8_t* packed, uint8_t* line) {
    const Convolution& v = job.shape;
    const Product& p = job.product;
    const Whole flip = job.flip - Whole{};
    for (int block = 0; block < blocks.count; ++block) {
        const int begin = blocks.begin(block), rows = blocks.begin(block + 1) - begin;
        uint8_t* const base = packed + begin * p.row_bytes();
        for (int row = 0; row < rows; ++row) {
            const Window window(v, job.x, first + begin + row, group * p.channels);
            uint8_t* const to = base + row * kRun;
            const long step = long(rows) * kRun;
            if (p.channels % kRun == 0) {
                pack_vectors<Whole>(job, window, to, step);
            } else if (p.channels % (kRun / 4) == 0) {
                pack_vectors<Quarter>(job, window, to, step);
            } else {
                gather(job, window, line);
                for (long d = 0; d < p.depth; d += kRun)
                    write<Whole>(to + d / kRun * step, read<Whole>(line + d) ^ flip);
            }
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
    char* const memory = job.workers + worker * round_up(cut.worker_bytes(p), kRun);
    int32_t* const tile = reinterpret_cast<int32_t*>(memory);
    uint8_t* const packed = reinterpret_cast<uint8_t*>(tile + kRows * kPanel);
    pack_windows(job, group, first, blocks, packed, packed + cut.block_rows * p.row_bytes());

    const int8_t* const weights = job.weights + group * p.group_bytes();
    const int end = (chunk + 1) * cut.chunk_panels, panels = p.panels();
    for (int panel = chunk * cut.chunk_panels; panel < end && panel < panels; ++panel) {
        const int vectors = p.panel_vectors(panel);
        for (int block = 0; block < blocks.count; ++block) {
            const int begin = blocks.begin(block), rows = blocks.begin(block + 1) - begin;
            tiles.table[rows - 1][vectors - 1](packed + begin * p.row_bytes(), weights + p.panel_bytes(panel * kPanel),
                                               p.fours(), tile);
            for (int row = 0; row < rows; ++row)
                for (int vector = 0; vector < vectors; ++vector) {
                    const int column = panel * kPanel + vector * kLanes;
                    finish(load_sums(tile + (row * vectors + vector) * kLanes), job.finish, first + begin + row,
                           group * p.columns + column, p.columns - column);
                }
        }
    }
}

bool supports(const Convolution& v) { return Product(v).depth <= kMostProducts; }

long sums_bytes(const Convolution& v) { return round_up(long(v.k) * long(sizeof(int32_t)), kAlignment); }

size_t prepared_bytes(const Convolution& v) { return size_t(sums_bytes(v) + v.groups * Product(v).group_bytes()); }

// The sum of each output channel's weights, then the panels.
void prepare(const Convolution& v, const int8_t* w_kcrs, void* prepared) {
    const Product p(v);
    const long taps = long(v.r) * v.s;
    int32_t* const sums = static_cast<int32_t*>(prepared);
    int8_t* to = static_cast<int8_t*>(prepared) + sums_bytes(v);
    for (int k = 0; k < v.k; ++k) {
        sums[k] = 0;
        for (long d = 0; d < p.depth; ++d) sums[k] += w_kcrs[k * p.depth + d];
    }
    for (int group = 0; group < v.groups; ++group)
        for (int panel = 0; panel < p.panels(); ++panel)
            for (long d = 0; d < p.fours() * 4; d += 4)
                for (int j = 0; j < p.panel_vectors(panel) * kLanes; ++j)
                    for (long place = d; place < d + 4; ++place) {
                        const int column = panel * kPanel + j;
                        const long k = long(group) * p.columns + column;
                        const long c = place % p.channels, tap = place / p.channels;
                        const bool there = column < p.columns && place < p.depth;
                        *to++ = there ? w_kcrs[(k * p.channels + c) * taps + tap] : int8_t(0);
                    }
}

size_t workspace_bytes(const Convolution& v, int threads) {
    const Product p(v);
    return finish_bytes(v) + size_t(round_up(Cut(v, p, threads).worker_bytes(p), kRun)) * size_t(threads);
}

void run(const Convolution& v, const IntegerInput& input, const uint8_t* x, const void* prepared, void* y,
         const IntegerEpilogue& epilogue, void* workspace, int threads) {
    const Product p(v);
    if (p.rows == 0) return;
    const int offset = input.zero + (input.is_signed ? 128 : 0);
    Job job{v,
            p,
            Cut(v, p, threads),
            x,
            uint8_t(input.zero),
            uint8_t(input.is_signed ? 0x80 : 0),
            static_cast<const int8_t*>(prepared) + sums_bytes(v),
            prepare_finish(v, offset, static_cast<const int32_t*>(prepared), y, epilogue, workspace),
            static_cast<char*>(workspace) + finish_bytes(v)};
    parallel_parts(size_t(job.cut.blocks * v.groups * job.cut.chunks), threads, multiply_part, &job);
}

}  // namespace

const IntegerAlgorithm kIntegerGemm = {"int8_gemm", supports, prepared_bytes, prepare, workspace_bytes, run};

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
