// Convolution of packed signs as a matrix product without its matrix: the windows of a few pixels at a time are
// gathered into the cache, word by word. Taps in zero padding are taken out of the sums afterwards, exactly. Compiled
// once per instruction set.
//
// References: Rastegari et al. 2016, XNOR-Net (arXiv 1603.05279), section 3.2; Bannink et al. 2021, Larq Compute Engine
// (arXiv 2011.09398), section 3, for the correction of zero padding.
#include "binary_levels.h"
#include "binary_tile.h"
#include "parts.h"
#include "windows.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

// The matrix product of one group. `pixel_words` counts the planes of a pixel's group, `depth` the words of one plane.
struct Product {
    long rows, depth, pixel_words;
    int columns, panels;

    explicit Product(const BinaryConvolution& v) {
        const Convolution& s = v.sizes;
        const long words = (s.c / s.groups + 63) / 64;
        rows = long(s.n) * s.out_h * s.out_w;
        depth = long(s.r) * s.s * words;
        pixel_words = words * left_planes(v.planes);
        columns = s.k / s.groups;
        panels = (columns + kTileColumns - 1) / kTileColumns;
    }
};

// Parts: row blocks whose gathered windows fill at most a quarter of the second-level cache, and chunks of panels where
// these are too few for the threads.
struct Cut {
    long block_rows, blocks;
    int chunks;

    Cut(const BinaryConvolution& v, const Product& p, int threads) {
        const long row_bytes = p.depth * left_planes(v.planes) * 8;
        const long most = long(caches().second) / 4 / row_bytes / kTileRows * kTileRows;
        const long wanted = threads > 1 ? 4L * threads : 1;
        long rows = (p.rows * v.sizes.groups + wanted - 1) / wanted;
        rows = (rows + kTileRows - 1) / kTileRows * kTileRows;
        if (rows < 4 * kTileRows) rows = 4 * kTileRows;
        block_rows = rows < most ? rows : most < kTileRows ? kTileRows : most;
        blocks = (p.rows + block_rows - 1) / block_rows;
        const long parts = blocks > 0 ? blocks * v.sizes.groups : wanted;  // an empty batch has none
        const long pieces = (wanted + parts - 1) / parts;
        chunks = pieces < p.panels ? int(pieces) : p.panels;
    }

    // The gathered windows, and for each of them a byte: whether it reaches into the padding.
    size_t worker_words(const BinaryConvolution& v, const Product& p) const {
        return size_t(block_rows * p.depth * left_planes(v.planes) + (block_rows + 7) / 8);
    }
};

struct Job {
    const BinaryConvolution& shape;
    const Product product;
    const Cut cut;
    const uint64_t *x, *prepared;
    void* y;
    const BinaryEpilogue& epilogue;
    uint64_t* workspace;
};

inline void copy_words(uint64_t* to, const uint64_t* from, long count) {
    for (; count >= kWords; count -= kWords, to += kWords, from += kWords) memcpy(to, from, sizeof(W));
    for (long i = 0; i < count; ++i) to[i] = from[i];
}

// What taps outside of the image see: +1 in every channel, or, where there is a plane for it, zero.
void fill_border(const BinaryConvolution& v, const Product& p, uint64_t* to) {
    const int planes = left_planes(v.planes), channels = v.sizes.c / v.sizes.groups;
    for (long i = 0; i < p.pixel_words; ++i) to[i] = 0;
    if (planes == 1 || v.zero_border) return;
    for (int i = 0; i * 64 < channels; ++i)
        to[i * 2 + 1] = channels - i * 64 < 64 ? (uint64_t(1) << (channels - i * 64)) - 1 : ~uint64_t(0);
}

// `pixel` counts those of all images; its words lie group by group.
Window<uint64_t> window_of(const Job& job, long pixel, int group) {
    const long words = job.product.pixel_words;
    return {job.shape.sizes, job.x, words * job.shape.sizes.groups, pixel, group * words};
}

void gather(const Job& job, const Window<uint64_t>& window, uint64_t* to) {
    const Convolution& v = job.shape.sizes;
    const long words = job.product.pixel_words;
    const bool whole_rows = v.groups == 1 && v.dilation_w == 1;
    for (int r = 0; r < v.r; ++r) {
        if (whole_rows && window.holds_row(r)) {
            copy_words(to, window.tap(r, 0), v.s * words);
            to += v.s * words;
            continue;
        }
        for (int s = 0; s < v.s; ++s, to += words) {
            const uint64_t* const from = window.tap(r, s);
            if (from)
                copy_words(to, from, words);
            else
                fill_border(job.shape, job.product, to);
        }
    }
}

// Takes out of the sums what taps in the zero padding added as if they were +1.
void correct(const Job& job, long pixel, int first, int count, int32_t* sums) {
    const Convolution& v = job.shape.sizes;
    const Window<uint64_t> window = window_of(job, pixel, 0);
    for (int r = 0; r < v.r; ++r)
        for (int s = 0; s < v.s; ++s) {
            if (window.tap(r, s)) continue;
            const int32_t* const tap = job.shape.tap_sums + (long(r) * v.s + s) * v.k + first;
            for (int i = 0; i < count; ++i) sums[i] -= tap[i];
        }
}

// What belongs to the output channels of a panel, filled up to its width: the excess channels are never negative.
struct Panel {
    int first, count;
    alignas(64) int32_t base[kTileColumns], direction[kTileColumns], threshold[kTileColumns];

    Panel(const BinaryConvolution& v, const BinaryEpilogue& e, int first_channel, int channels)
        : first(first_channel), count(channels) {
        const bool signs = e.output == BinaryOutput::signs;
        for (int i = 0; i < kTileColumns; ++i) {
            const bool there = i < channels;
            base[i] = there ? v.base[first + i] : 0;
            direction[i] = there && signs ? e.direction[first + i] : 1;
            threshold[i] = there && signs ? e.threshold[first + i] : INT32_MIN;
        }
    }
};

// The bits of direction * sum < threshold.
inline uint32_t negative(const Panel& panel, const int32_t* sums) {
    uint32_t bits = 0;
#if defined(__AVX512F__)
    for (int i = 0; i < kTileColumns; i += 16) {
        const __m512i sum = _mm512_mullo_epi32(_mm512_load_si512(sums + i), _mm512_load_si512(panel.direction + i));
        bits |= uint32_t(_mm512_cmplt_epi32_mask(sum, _mm512_load_si512(panel.threshold + i))) << i;
    }
#elif defined(__AVX2__)
    for (int i = 0; i < kTileColumns; i += 8) {
        const auto at = [i](const int32_t* values) { return _mm256_load_si256((const __m256i*)(values + i)); };
        const __m256i sum = _mm256_mullo_epi32(at(sums), at(panel.direction));
        bits |= uint32_t(_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(at(panel.threshold), sum)))) << i;
    }
#else
    for (int i = 0; i < kTileColumns; ++i) bits |= uint32_t(panel.direction[i] * sums[i] < panel.threshold[i]) << i;
#endif
    return bits;
}

// Stores the sums of a pixel's channels. Packed signs rely on little-endian words, as all processors here have.
inline void store_sums(const Job& job, const Panel& panel, long pixel, const int32_t* sums) {
    const BinaryEpilogue& e = job.epilogue;
    const int k = job.shape.sizes.k, first = panel.first, count = panel.count;
    const long at = pixel * k + first;
    if (e.output == BinaryOutput::sums) {
        memcpy(static_cast<int32_t*>(job.y) + at, sums, size_t(count) * sizeof(int32_t));
    } else if (e.output == BinaryOutput::scaled) {
        float* const to = static_cast<float*>(job.y) + at;
        for (int i = 0; i < count; ++i) to[i] = e.scale[first + i] * float(sums[i]) + e.shift[first + i];
    } else {
        const long bytes = (k + 63) / 64 * 8;
        uint8_t* const pixel_bytes = static_cast<uint8_t*>(job.y) + pixel * bytes;
        const uint32_t bits = negative(panel, sums);
        const int used = (count + 7) / 8, begin = first / 8;
        for (int byte = 0; byte < used; ++byte) pixel_bytes[begin + byte] = uint8_t(bits >> (8 * byte));
        if (first + count == k)
            for (long byte = begin + used; byte < bytes; ++byte) pixel_bytes[byte] = 0;
    }
}

void convolve_part(void* context, size_t part, int worker) {
    const Job& job = *static_cast<const Job*>(context);
    const Product& p = job.product;
    const BinaryConvolution& v = job.shape;
    const int left = left_planes(v.planes), right = right_planes(v.planes);
    const int chunk = int(part % job.cut.chunks), group = int(part / job.cut.chunks % v.sizes.groups);
    const long begin = long(part / job.cut.chunks / v.sizes.groups) * job.cut.block_rows;
    const long rows = p.rows - begin < job.cut.block_rows ? p.rows - begin : job.cut.block_rows;
    uint64_t* const windows = job.workspace + size_t(worker) * job.cut.worker_words(v, p);
    uint8_t* const padded = reinterpret_cast<uint8_t*>(windows + job.cut.block_rows * p.depth * left);
    const bool corrected = v.zero_border && left == 1;
    Window<uint64_t> window = window_of(job, begin, group);
    for (long row = 0; row < rows; ++row, window.next()) {
        gather(job, window, windows + row * p.depth * left);
        padded[row] = corrected && !window.holds_all();
    }

    const uint64_t* const weights = job.prepared + long(group) * p.panels * p.depth * right * kTileColumns;
    const int from = int(long(p.panels) * chunk / job.cut.chunks);
    const int to = int(long(p.panels) * (chunk + 1) / job.cut.chunks);
    alignas(64) int32_t sums[kTileRows][kTileColumns];
    for (int panel = from; panel < to; ++panel) {
        const int column = panel * kTileColumns, left_columns = p.columns - column;
        const Panel channels(v, job.epilogue, group * p.columns + column,
                             left_columns < kTileColumns ? left_columns : kTileColumns);
        for (long row = 0; row < rows; row += kTileRows) {
            const int tile_rows = rows - row < kTileRows ? int(rows - row) : kTileRows;
            binary_tile(v.planes, tile_rows)(windows + row * p.depth * left, p.depth * left,
                                             weights + long(panel) * p.depth * right * kTileColumns, p.depth, sums);
            for (int r = 0; r < tile_rows; ++r) {
                for (int i = 0; i < kTileColumns; ++i) sums[r][i] = channels.base[i] - sums[r][i];
                if (padded[row + r]) correct(job, begin + row + r, channels.first, channels.count, sums[r]);
                store_sums(job, channels, begin + row + r, sums[r]);
            }
        }
    }
}

// A second thread costs about 5 microseconds: below some 15 of work it takes more than it gives.
int useful_threads(const BinaryConvolution& v, const Product& p, int threads) {
    const long steps = p.rows * p.depth * long(v.sizes.k) / kWords;
    return steps < 50000 ? 1 : threads;
}

}  // namespace

size_t binary_workspace_bytes(const BinaryConvolution& v, int threads) {
    const Product p(v);
    threads = useful_threads(v, p, threads);
    return Cut(v, p, threads).worker_words(v, p) * size_t(threads) * sizeof(uint64_t);
}

void convolve_signs(const BinaryConvolution& v, const uint64_t* x, const uint64_t* prepared, void* y,
                    const BinaryEpilogue& epilogue, void* workspace, int threads) {
    const Product p(v);
    if (p.rows == 0) return;
    threads = useful_threads(v, p, threads);
    Job job{v, p, Cut(v, p, threads), x, prepared, y, epilogue, static_cast<uint64_t*>(workspace)};
    parallel_parts(size_t(job.cut.blocks * v.sizes.groups * job.cut.chunks), threads, convolve_part, &job);
}

const BinaryTable kBinary = {pack_signs,     prepared_words, prepare_product, multiply_signs, binary_workspace_bytes,
                             convolve_signs, pool_signs,     unpack_signs};

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
