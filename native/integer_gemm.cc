// Convolution of codes as a matrix product without its matrix: windows of a few pixels are packed into the cache, a
// kernel of any size, stride, dilation, padding and group. Compiled once per instruction set.
//
// The idea as in convolution_gemm.cc. Windows are packed by runs of 64 bytes, run[pixel][64], and all pixels of all
// images are rows of one matrix, so that small images fill the tiles. Signed images become unsigned by adding 128; what
// that and the zero point add to every sum is 128 or zero times the sum of the weights, and goes into the bias.
#include "integer_levels.h"
#include "integer_tile.h"
#include "parts.h"
#include "windows.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

constexpr int kRun = 64;

struct Product : WindowProduct {
    Panels panels;

    explicit Product(const Convolution& v) : WindowProduct(v), panels{columns, (depth + 3) / 4} {}

    int runs() const { return int((depth + kRun - 1) / kRun); }
};

// How the product is cut into parts, as in convolution_gemm.cc.
struct Cut : RowBlocks, Chunks {
    Cut(const Convolution& v, const Product& p, int threads)
        : RowBlocks(p.rows, most_rows(p), kTileRows, v.groups, threads),
          Chunks(p.panels.count(), (wanted_parts(threads) + blocks * v.groups - 1) / (blocks * v.groups)) {}

    static long most_rows(const Product& p) {
        const long most = long(caches().second) / 2 / (p.runs() * kRun) / kTileRows * kTileRows;
        return most < kTileRows ? kTileRows : most;
    }

    // From one run to the next: an odd number of cache lines, so that the runs of a pixel spread over the sets.
    long run_step() const { return (block_rows | 1) * kRun; }
    long packed_bytes(const Product& p) const { return p.runs() * run_step(); }
    // Packed rows, and a line of one window with room for a run more.
    long worker_bytes(const Product& p) const { return packed_bytes(p) + (p.runs() + 1) * kRun; }
};

struct Job {
    const Convolution& shape;
    const Product product;
    const Cut cut;
    const uint8_t* x;
    uint8_t fill, flip;
    const int8_t* weights;
    const Finish finish;
    const Runs runs;
    char* workers;
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

// Packs a window whose channels are whole vectors: `to` is its row in the first run, `step` from run to run.
template <class Vector>
void pack_vectors(const Job& job, const Window<uint8_t>& window, uint8_t* to, long step) {
    const Convolution& v = job.shape;
    constexpr int kSize = int(sizeof(Vector));
    const Vector flip = job.flip - Vector{}, empty = uint8_t(job.fill ^ job.flip) - Vector{};
    int place = 0;
    for (int r = 0; r < v.r; ++r)
        for (int s = 0; s < v.s; ++s) {
            const uint8_t* const from = window.tap(r, s);
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

// Gathers any window into the line.
void gather(const Job& job, const Window<uint8_t>& window, uint8_t* line) {
    const Convolution& v = job.shape;
    const int channels = job.product.channels;
    const bool whole_rows = v.dilation_w == 1 && v.x_pitch == channels;
    for (int r = 0; r < v.r; ++r) {
        if (whole_rows && window.holds_row(r)) {
            copy_codes_to(line, window.tap(r, 0), long(v.s) * channels, job.flip);
            line += long(v.s) * channels;
            continue;
        }
        for (int s = 0; s < v.s; ++s, line += channels) {
            const uint8_t* from = window.tap(r, s);
            if (from)
                copy_codes_to(line, from, channels, job.flip);
            else
                fill_codes(line, job.fill ^ job.flip, channels);
        }
    }
}

void pack_windows(const Job& job, int group, long first, int rows, uint8_t* packed, uint8_t* line) {
    const Convolution& v = job.shape;
    const Product& p = job.product;
    const long step = job.cut.run_step();
    Window<uint8_t> window(v, job.x, v.x_pitch, first, long(group) * p.channels);
    for (int row = 0; row < rows; ++row, window.next()) {
        uint8_t* const to = packed + row * kRun;
        if (p.channels % kRun == 0) {
            pack_vectors<Whole>(job, window, to, step);
        } else if (p.channels % (kRun / 4) == 0) {
            pack_vectors<Quarter>(job, window, to, step);
        } else {
            gather(job, window, line);
            for (int run = 0; run < p.runs(); ++run) write<Whole>(to + run * step, read<Whole>(line + run * kRun));
        }
    }
}

void multiply_part(void* context, size_t part, int worker) {
    const Job& job = *static_cast<const Job*>(context);
    const Product& p = job.product;
    const Cut& cut = job.cut;
    const int chunk = int(part % cut.chunks), group = int(part / cut.chunks % job.shape.groups);
    const long first = long(part / cut.chunks / job.shape.groups) * cut.block_rows;
    const Tiles<kTileRows> rows(int(p.rows - first < cut.block_rows ? p.rows - first : cut.block_rows));
    char* const memory = job.workers + worker * round_up(cut.worker_bytes(p), kRun);
    uint8_t* const packed = reinterpret_cast<uint8_t*>(memory);
    pack_windows(job, group, first, rows.rows, packed, packed + cut.packed_bytes(p));

    const int8_t* const weights = job.weights + group * p.panels.bytes();
    const int end = (chunk + 1) * cut.chunk_panels;
    for (int panel = chunk * cut.chunk_panels; panel < end && panel < p.panels.count(); ++panel)
        for (int tile = 0; tile < rows.count; ++tile) {
            const int begin = rows.begin(tile), column = panel * kTileColumns;
            const Target target{job.finish, first + begin, group * p.columns + column, p.columns - column};
            multiply_codes(rows.begin(tile + 1) - begin, p.panels.vectors(panel))(
                packed + begin * kRun, kRun, job.runs, weights + p.panels.offset(panel), target);
        }
}

bool supports(const Convolution& v) { return Product(v).depth <= kMostProducts; }

size_t prepared_bytes(const Convolution& v) {
    return weight_sums_bytes(v) + size_t(v.groups * Product(v).panels.bytes());
}

// The sum of each output channel's weights, then the panels.
void prepare(const Convolution& v, const int8_t* w_kcrs, void* prepared) {
    const Product p(v);
    const long taps = long(v.r) * v.s;
    sum_weights(v, w_kcrs, static_cast<int32_t*>(prepared));
    int8_t* const panels = static_cast<int8_t*>(prepared) + weight_sums_bytes(v);
    for (int group = 0; group < v.groups; ++group)
        p.panels.fill(panels + group * p.panels.bytes(), [&](int column, long place) {
            const long k = long(group) * p.columns + column, c = place % p.channels, tap = place / p.channels;
            return place < p.depth ? w_kcrs[(k * p.channels + c) * taps + tap] : int8_t(0);
        });
}

long runs_bytes(const Product& p) { return round_up(p.runs() * long(sizeof(long)), kRun); }

size_t workspace_bytes(const Convolution& v, int threads) {
    const Product p(v);
    const size_t worker = size_t(round_up(Cut(v, p, threads).worker_bytes(p), kRun));
    return finish_bytes(v) + size_t(runs_bytes(p)) + worker * size_t(threads);
}

void run(const Convolution& v, const IntegerInput& input, const uint8_t* x, const void* prepared, void* y,
         const IntegerEpilogue& epilogue, void* workspace, int threads) {
    const Product p(v);
    if (p.rows == 0) return;
    const Cut cut(v, p, threads);
    const int offset = input.zero + (input.is_signed ? 128 : 0);
    char* const memory = static_cast<char*>(workspace) + finish_bytes(v);
    long* const offsets = reinterpret_cast<long*>(memory);
    for (int i = 0; i < p.runs(); ++i) offsets[i] = i * cut.run_step();
    Job job{v,
            p,
            cut,
            x,
            uint8_t(input.zero),
            uint8_t(input.is_signed ? 0x80 : 0),
            static_cast<const int8_t*>(prepared) + weight_sums_bytes(v),
            prepare_finish(v, offset, static_cast<const int32_t*>(prepared), y, epilogue, workspace),
            {offsets, p.runs(), kRun / 4, p.panels.fours - (p.runs() - 1L) * (kRun / 4)},
            memory + runs_bytes(p)};
    parallel_parts(size_t(cut.blocks * v.groups * cut.chunks), threads, multiply_part, &job);
}

}  // namespace

const IntegerAlgorithm kIntegerGemm = {"int8_gemm", supports, prepared_bytes, prepare, workspace_bytes, run};

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
