// Direct convolution of codes: pixels are multiplied where they lie. Compiled once per instruction set.
//
// A kernel row is one run of adjacent bytes, and neighbouring outputs read the same bytes a stride further on, so that
// nothing is packed: only where there is padding, or where the pixels of a tile would fall into few sets of the cache,
// a band of the image is copied first, each byte once and not once for every tap. Zhang, Franchetti, Low 2018,
// High Performance Zero-Memory Overhead Direct Convolutions, arXiv 1809.10170.
#include "integer_levels.h"
#include "integer_tile.h"
#include "parts.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

// Pixels of a line of a 1x1 convolution, whose image is one long row.
constexpr int kLine = 8 * kTileRows;

// What is read: `lines` of `width` output pixels an image, in runs of `run` bytes.
struct Plan {
    bool pointwise, copied;
    long images, lines, total;  // total: output pixels of an image
    int width, channels, run_count;
    long run, fours;   // bytes and fours of a run
    long row, rows;    // of a band: bytes from input row to input row, and input rows for one line
    long pitch;        // bytes from output pixel to output pixel
    long band, bands;  // lines of a band, bands of an image
    int chunk_panels, chunks;
    Panels panels;

    Plan(const Convolution& v, bool flipped, int threads) {
        channels = v.c / v.groups;
        const bool padded = v.pad_top || v.pad_left || v.pad_bottom || v.pad_right;
        pointwise =
            v.r == 1 && v.s == 1 && v.stride_h == 1 && v.stride_w == 1 && !padded && v.out_h == v.h && v.out_w == v.w;
        const bool rows_adjacent = v.dilation_w == 1 && v.groups == 1;
        run = rows_adjacent ? long(v.s) * channels : channels;
        run_count = v.r * (rows_adjacent ? 1 : v.s);
        fours = (run + 3) / 4;
        panels = {v.k / v.groups, fours * run_count};
        // Pixels 4 KiB apart would all lie in one set.
        copied = padded || flipped || run % 4 != 0 || (run > channels && v.x_pitch != v.c) ||
                 long(v.stride_w) * v.x_pitch % 4096 == 0;
        images = pointwise ? 1 : v.n;
        total = pointwise ? long(v.n) * v.out_h * v.out_w : long(v.out_h) * v.out_w;
        width = pointwise ? kLine : v.out_w;
        lines = (total + width - 1) / width;
        set_pitches(v);
        cut(v, threads);
    }

    // Of a copy: a channel's pixel spread so that tiles use all sets.
    long copied_pixel(const Convolution& v) const {
        const long bytes = long(v.c);
        return bytes % 256 == 0 && run == channels && v.s == 1 ? bytes + 64 : bytes;
    }
    long copied_width(const Convolution& v) const {
        return pointwise ? width : long(v.out_w - 1) * v.stride_w + long(v.s - 1) * v.dilation_w + 1;
    }
    void set_pitches(const Convolution& v) {
        const long pixel = copied ? copied_pixel(v) : v.x_pitch;
        pitch = pixel * (pointwise ? 1 : v.stride_w);
        row = copied ? round_up(copied_width(v) * pixel, 4) : long(v.w) * v.x_pitch;
        rows = pointwise ? 1 : long(v.r - 1) * v.dilation_h + 1;
    }
    long stride_h(const Convolution& v) const { return pointwise ? 1 : v.stride_h; }
    long input_rows(const Convolution& v, long count) const { return (count - 1) * stride_h(v) + rows; }

    void cut(const Convolution& v, int threads) {
        const long budget = long(caches().second) / 2;
        const long line_bytes = pointwise ? width * pitch : stride_h(v) * row;
        long most = (budget - rows * row) / (line_bytes ? line_bytes : 1);
        if (most < 1) most = 1;
        const long wanted = wanted_parts(threads);
        bands = (lines + most - 1) / most;
        if (bands * images * v.groups < wanted) {
            const long least = pointwise ? 1 : 4;  // lines of a band, whose first rows are copied twice
            const long useful = (lines + least - 1) / least;
            const long more = (wanted + images * v.groups - 1) / (images * v.groups);
            const long most_bands = more < useful ? more : useful;
            if (bands < most_bands) bands = most_bands;
        }
        band = (lines + bands - 1) / bands;
        bands = (lines + band - 1) / band;
        const long pieces = (wanted + bands * images * v.groups - 1) / (bands * images * v.groups);
        const Chunks found(panels.count(), pieces);
        chunk_panels = found.chunk_panels;
        chunks = found.chunks;
    }

    // Copies may write 63 bytes more, and a last four reads up to 3.
    long worker_bytes(const Convolution& v) const {
        if (!copied) return 0;
        return round_up((pointwise ? band * row : input_rows(v, band) * row) + 128, kAlignment);
    }
    long runs_bytes() const { return round_up(run_count * long(sizeof(long)), kAlignment); }
};

struct Job {
    const Convolution& shape;
    const Plan plan;
    const uint8_t* x;
    uint8_t fill, flip;
    const int8_t* weights;
    const Finish finish;
    const Runs runs;
    char* workers;
};

// Copies the pixels of lines `first` to `end` of a 1x1 convolution.
void copy_pixels(const Job& job, long first, long end, uint8_t* to) {
    const Plan& p = job.plan;
    const long last = end * p.width < p.total ? end * p.width : p.total;
    for (long pixel = first * p.width; pixel < last; ++pixel, to += p.pitch)
        copy_codes_to(to, job.x + pixel * job.shape.x_pitch, job.shape.c, job.flip);
}

// Copies the input rows of output lines `first` to `end` of an image, padding included.
void copy_rows(const Job& job, long image, long first, long end, uint8_t* band) {
    const Convolution& v = job.shape;
    const Plan& p = job.plan;
    const uint8_t empty = job.fill ^ job.flip;
    const long pixel = p.copied_pixel(v), width = p.copied_width(v), top = first * v.stride_h - v.pad_top;
    const long inside = v.pad_left < width ? v.pad_left : width;
    const long count = width - inside < v.w ? width - inside : v.w;
    for (long i = 0; i < p.input_rows(v, end - first); ++i) {
        uint8_t* const to = band + i * p.row;
        if (top + i < 0 || top + i >= v.h) {
            fill_codes(to, empty, p.row);
            continue;
        }
        const uint8_t* const from = job.x + (image * v.h + top + i) * v.w * v.x_pitch;
        if (pixel == v.x_pitch && pixel == v.c)
            copy_codes_to(to + inside * pixel, from, count * pixel, job.flip);
        else
            for (long j = 0; j < count; ++j)
                copy_codes_to(to + (inside + j) * pixel, from + j * v.x_pitch, v.c, job.flip);
        fill_codes(to, empty, inside * pixel);
        fill_codes(to + (inside + count) * pixel, empty, p.row - (inside + count) * pixel);
    }
}

void convolve_part(void* context, size_t part, int worker) {
    const Job& job = *static_cast<const Job*>(context);
    const Convolution& v = job.shape;
    const Plan& p = job.plan;
    const int chunk = int(part % p.chunks), group = int(part / p.chunks % v.groups);
    const long unit = long(part / p.chunks / v.groups), image = unit / p.bands, first = unit % p.bands * p.band;
    const long end = first + p.band < p.lines ? first + p.band : p.lines;
    const uint8_t* base;
    if (p.copied) {
        uint8_t* const memory = reinterpret_cast<uint8_t*>(job.workers) + worker * p.worker_bytes(v);
        p.pointwise ? copy_pixels(job, first, end, memory) : copy_rows(job, image, first, end, memory);
        base = memory;
    } else {
        base = job.x + (p.pointwise ? first * p.width : (image * v.h + first * v.stride_h) * v.w) * v.x_pitch;
    }
    base += group * p.channels;
    const long line_step = p.pointwise ? p.width * p.pitch : p.stride_h(v) * p.row;
    const int8_t* const weights = job.weights + group * p.panels.bytes();
    const int last = (chunk + 1) * p.chunk_panels;
    for (int panel = chunk * p.chunk_panels; panel < last && panel < p.panels.count(); ++panel)
        for (long line = first; line < end; ++line) {
            const long left = p.total - line * p.width;
            const Tiles<kTileRows> pixels(left < p.width ? int(left) : p.width);
            for (int tile = 0; tile < pixels.count; ++tile) {
                const int begin = pixels.begin(tile), column = panel * kTileColumns;
                const Target target{job.finish, image * p.total + line * p.width + begin,
                                    group * p.panels.columns + column, p.panels.columns - column};
                multiply_codes(pixels.begin(tile + 1) - begin, p.panels.vectors(panel))(
                    base + (line - first) * line_step + begin * p.pitch, p.pitch, job.runs,
                    weights + p.panels.offset(panel), target);
            }
        }
}

bool supports(const Convolution& v) { return long(v.r) * v.s * (v.c / v.groups) <= kMostProducts; }

size_t prepared_bytes(const Convolution& v) {
    return weight_sums_bytes(v) + size_t(v.groups * Plan(v, false, 1).panels.bytes());
}

// The sum of each output channel's weights, then the panels in the order of the runs.
void prepare(const Convolution& v, const int8_t* w_kcrs, void* prepared) {
    const Plan p(v, false, 1);
    const long taps = long(v.r) * v.s;
    sum_weights(v, w_kcrs, static_cast<int32_t*>(prepared));
    int8_t* const panels = static_cast<int8_t*>(prepared) + weight_sums_bytes(v);
    for (int group = 0; group < v.groups; ++group)
        p.panels.fill(panels + group * p.panels.bytes(), [&](int column, long place) {
            const long run = place / (p.fours * 4), byte = place % (p.fours * 4);
            const long k = long(group) * p.panels.columns + column, c = byte % p.channels;
            const long tap = run * (p.run / p.channels) + byte / p.channels;
            return byte < p.run ? w_kcrs[(k * p.channels + c) * taps + tap] : int8_t(0);
        });
}

// Signed images are copied, others perhaps not.
size_t workspace_bytes(const Convolution& v, int threads) {
    const Plan a(v, false, threads), b(v, true, threads);
    const long worker = a.worker_bytes(v) > b.worker_bytes(v) ? a.worker_bytes(v) : b.worker_bytes(v);
    const long runs = a.runs_bytes() > b.runs_bytes() ? a.runs_bytes() : b.runs_bytes();
    return finish_bytes(v) + size_t(runs) + size_t(worker) * size_t(threads);
}

void run(const Convolution& v, const IntegerInput& input, const uint8_t* x, const void* prepared, void* y,
         const IntegerEpilogue& epilogue, void* workspace, int threads) {
    const Plan p(v, input.is_signed, threads);
    if (v.n == 0) return;
    const int offset = input.zero + (input.is_signed ? 128 : 0);
    char* const memory = static_cast<char*>(workspace) + finish_bytes(v);
    long* const offsets = reinterpret_cast<long*>(memory);
    const int across = p.run_count / v.r;
    const long pixel = p.pitch / (p.pointwise ? 1 : v.stride_w);
    for (int i = 0; i < p.run_count; ++i)
        offsets[i] = i / across * v.dilation_h * p.row + i % across * v.dilation_w * pixel;
    Job job{v,
            p,
            x,
            uint8_t(input.zero),
            uint8_t(input.is_signed ? 0x80 : 0),
            static_cast<const int8_t*>(prepared) + weight_sums_bytes(v),
            prepare_finish(v, offset, static_cast<const int32_t*>(prepared), y, epilogue, workspace),
            {offsets, p.run_count, p.fours, p.fours},
            memory + p.runs_bytes()};
    parallel_parts(size_t(p.images * p.bands * v.groups * p.chunks), threads, convolve_part, &job);
}

}  // namespace

const IntegerAlgorithm kIntegerDirect = {"int8_direct", supports, prepared_bytes, prepare, workspace_bytes, run};

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
