// Convolution of codes by Winograd's F(2x2,3x3) and F(4x4,3x3), rounded to 8 bits a second time: at each point of the
// transformed domain. The only kernel of codes that is not exact. Compiled once per instruction set; every level gives
// the same bits, those of kernels/integer_winograd.py.
//
// Transforms of codes are whole numbers that fit 16 bits (at most 81 * 255 in size). They are scaled by the largest of
// their tile and point over all channels, weights by the largest of their point and output channel, and rounded to
// signed bytes; the products are exact, and their sums go back in float32. Quantisation in the transformed domain as in
// Li, Jia, Feng, Wang 2021, LoWino (ICPP), whose scales of images are found beforehand; these are each tile's own.
#include "integer_levels.h"
#include "integer_tile.h"
#include "parts.h"
#include "windows.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

constexpr int kWide = 2 * kLanes;  // 16-bit lanes
typedef uint8_t WideBytes __attribute__((vector_size(kWide)));

struct Form {
    int a, m;
    constexpr int points() const { return a * a; }
};

constexpr long kScaleFloats = 48;  // of one tile: at most 36, filled up to whole cache lines

struct Plan {
    int points, depth;  // channels, filled up to whole vectors
    Panels panels;
    long high, wide, tiles, block, blocks, group;  // tiles of a block; blocks of a group
    bool fused;                                    // a thread takes a block through all steps

    Plan(const Convolution& v, const Form& f, int threads)
        : points(f.points()),
          depth(int(round_up(v.c, kAlignment))),
          panels{v.k, depth / 4},
          high((v.out_h + f.m - 1) / f.m),
          wide((v.out_w + f.m - 1) / f.m),
          tiles(v.n * high * wide) {
        long most = long(caches().second) / 2 / (points * (long(depth) + kTileColumns * 4));
        most = most < kTileRows ? kTileRows : most > 8 * kTileRows ? 8 * kTileRows : most / kTileRows * kTileRows;
        blocks = (tiles + most - 1) / most;
        fused = blocks >= 2 * threads;
        if (fused && blocks < 8 * threads) blocks = round_up(blocks, threads);
        block = (tiles + blocks - 1) / blocks;
        blocks = (tiles + block - 1) / block;
        group = fused ? 1 : (long(4) << 20) / block_bytes();
        if (group < 1) group = 1;
        if (group > blocks) group = blocks;
    }

    int block_tiles(long index) const { return int(tiles - index * block < block ? tiles - index * block : block); }
    // Quantised points of a block, [point][tile][channel], and their scales, [tile][point].
    long code_bytes() const { return points * block * depth; }
    long block_bytes() const { return code_bytes() + block * kScaleFloats * long(sizeof(float)); }
    // The transforms of one tile, and sums of one panel.
    long tile_bytes() const { return points * long(depth) * 2; }
    long sum_bytes() const { return points * block * kTileColumns * 4; }
    long worker_bytes() const { return tile_bytes() + sum_bytes() + (fused ? block_bytes() : 0); }
    long shared_bytes() const { return fused ? 0 : group * block_bytes(); }
    // Of prepared weights: for each point the panels, the sums' corrections and the scales.
    long outputs() const { return round_up(panels.columns, kAlignment / 4) + kTileColumns; }
    long point_bytes() const { return round_up(panels.bytes(), kAlignment) + outputs() * 8; }
};

struct Job {
    const Convolution& shape;
    const Form& form;
    const Plan plan;
    const IntegerInput& input;
    const uint8_t* x;
    const char* weights;
    const Finish finish;
    char* shared;
    char* workers;
    long first_block;

    char* worker(int index) const { return workers + index * plan.worker_bytes(); }
    const int8_t* panels(int point) const {
        return reinterpret_cast<const int8_t*>(weights + point * plan.point_bytes());
    }
    const int32_t* corrections(int point) const {
        return reinterpret_cast<const int32_t*>(weights + point * plan.point_bytes() +
                                                round_up(plan.panels.bytes(), kAlignment));
    }
    const float* scales(int point) const { return reinterpret_cast<const float*>(corrections(point) + plan.outputs()); }
};

// v times factor / 2^15, rounded.
inline H scaled(H v, int16_t factor) {
#if defined(__AVX512BW__)
    return (H)_mm512_mulhrs_epi16((__m512i)v, _mm512_set1_epi16(factor));
#elif defined(__AVX2__)
    return (H)_mm256_mulhrs_epi16((__m256i)v, _mm256_set1_epi16(factor));
#else
    typedef int32_t Product __attribute__((vector_size(8 * kLanes)));
    return __builtin_convertvector((__builtin_convertvector(v, Product) * factor + (1 << 14)) >> 15, H);
#endif
}

// Points are 0, infinity and +-1, or 0, infinity, +-sqrt(1/2) and +-sqrt(2): with these the rounding of points comes
// back half as large as with +-1 and +-2 (0.045 instead of 0.092 of the sums, root mean square, 256 channels).
// `powers` of the pairs' points, and what kernels are multiplied with at 0, at each pair and at infinity.
template <int A>
struct CodePoints;
template <>
struct CodePoints<4> {
    static constexpr int pairs = 1;
    static constexpr float zero = 1.0f, last = 1.0f, scale[] = {0.5f}, powers[][4] = {{1.0f, 1.0f, 1.0f, 1.0f}};
};
template <>
struct CodePoints<6> {
    static constexpr int pairs = 2;
    static constexpr float zero = 0.5f, last = 0.5f, scale[] = {-2.0f / 3, 1.0f / 12};
    static constexpr float powers[][4] = {{1.0f, 0.707106781f, 0.5f, 0.353553391f},
                                          {1.0f, 1.414213562f, 2.0f, 2.828427125f}};
};

constexpr int16_t kRoot = 23170;  // sqrt(1/2) * 2^15

// Windows of whole numbers; those times a root are rounded, a unit of codes or two against steps of dozens.
template <int A>
inline void forward_whole(const H (&d)[A], H (&o)[A]) {
    if constexpr (A == 4) {
        o[0] = d[0] - d[2];
        o[1] = d[2] + d[1];
        o[2] = d[2] - d[1];
        o[3] = d[3] - d[1];
    } else {
        o[0] = 2 * (d[0] + d[4]) - 5 * d[2];
        const H even1 = d[4] - 2 * d[2], odd1 = scaled(d[3] - 2 * d[1], kRoot);
        o[1] = even1 + odd1;
        o[2] = even1 - odd1;
        const H even2 = 2 * d[4] - d[2], odd2 = scaled(2 * (2 * d[3] - d[1]), kRoot);
        o[3] = even2 + odd2;
        o[4] = even2 - odd2;
        o[5] = 2 * (d[1] + d[5]) - 5 * d[3];
    }
}

template <int A>
inline void kernel_codes(const F (&g)[3], F (&o)[A]) {
    using P = CodePoints<A>;
    o[0] = P::zero * g[0];
#pragma GCC unroll 2
    for (int pair = 0; pair < P::pairs; ++pair) {
        const float scale = P::scale[pair];
        const F even = scale * g[0] + scale * P::powers[pair][2] * g[2], odd = scale * P::powers[pair][1] * g[1];
        o[1 + 2 * pair] = even + odd;
        o[2 + 2 * pair] = even - odd;
    }
    o[A - 1] = P::last * g[2];
}

template <int A, int M>
inline void outputs_of(const F (&t)[A], F (&y)[M]) {
    using P = CodePoints<A>;
    F both[P::pairs][2];
#pragma GCC unroll 2
    for (int pair = 0; pair < P::pairs; ++pair) {
        both[pair][0] = t[1 + 2 * pair] + t[2 + 2 * pair];
        both[pair][1] = t[1 + 2 * pair] - t[2 + 2 * pair];
    }
#pragma GCC unroll 4
    for (int i = 0; i < M; ++i) {
        F sum = P::powers[0][i] * both[0][i % 2];
#pragma GCC unroll 2
        for (int pair = 1; pair < P::pairs; ++pair) sum += P::powers[pair][i] * both[pair][i % 2];
        if (i == 0) sum += t[0];
        if (i == M - 1) sum += t[A - 1];
        y[i] = sum;
    }
}

inline H widened_codes(WideBytes v) {
#if defined(__AVX512BW__)
    return (H)_mm512_cvtepu8_epi16((__m256i)v);
#elif defined(__AVX2__)
    return (H)_mm256_cvtepu8_epi16((__m128i)v);
#else
    return __builtin_convertvector(v, H);
#endif
}

inline H larger_size(H most, H v) {
#if defined(__AVX512BW__)
    return (H)_mm512_max_epi16((__m512i)most, _mm512_abs_epi16((__m512i)v));
#elif defined(__AVX2__)
    return (H)_mm256_max_epi16((__m256i)most, _mm256_abs_epi16((__m256i)v));
#else
    const H size = v < 0 ? -v : v;
    return size > most ? size : most;
#endif
}

// Reads `count` (at most kWide) codes less their zero point; none: zeros.
inline H read_codes(const uint8_t* at, int count, int flip, int zero) {
    WideBytes v = {};
    if (count >= kWide) {
        memcpy(&v, at, sizeof v);
    } else {
        uint8_t part[kWide] = {};
        for (int i = 0; i < count; ++i) part[i] = at[i];
        memcpy(&v, part, sizeof v);
    }
    return widened_codes(v ^ (uint8_t(flip) - WideBytes{})) - (int16_t(zero) - H{});
}

// Transforms kWide channels of a tile to to[point][channel]; sizes become the largest so far.
template <int A>
void forward_codes(const Job& job, const uint8_t* image, int top, int left, int channel, int16_t* to, H* sizes) {
    const Convolution& v = job.shape;
    const int flip = job.input.is_signed ? 0x80 : 0, zero = job.input.zero + (job.input.is_signed ? 128 : 0);
    const long step = job.plan.depth;
    H half[A][A];
#pragma GCC unroll 8
    for (int j = 0; j < A; ++j) {
        H d[A], o[A];
        const int column = left + j;
#pragma GCC unroll 8
        for (int i = 0; i < A; ++i) {
            const int row = top + i;
            const bool exists = row >= 0 && row < v.h && column >= 0 && column < v.w;
            d[i] = exists
                       ? read_codes(image + (long(row) * v.w + column) * v.x_pitch + channel, v.c - channel, flip, zero)
                       : H{};
        }
        forward_whole<A>(d, o);
#pragma GCC unroll 8
        for (int i = 0; i < A; ++i) half[i][j] = o[i];
    }
    // Codes beyond the last channel are zero minus the zero point: nothing.
    H mask = {};
    for (int lane = 0; lane < kWide; ++lane) mask[lane] = channel + lane < v.c ? -1 : 0;
#pragma GCC unroll 8
    for (int i = 0; i < A; ++i) {
        H o[A];
        forward_whole<A>(half[i], o);
#pragma GCC unroll 8
        for (int j = 0; j < A; ++j) {
            const H point = o[j] & mask;
            sizes[i * A + j] = larger_size(sizes[i * A + j], point);
            memcpy(to + (i * A + j) * step + channel, &point, sizeof point);
        }
    }
}

// Rounds `depth` transforms times `factor` to bytes, 128 added.
void quantise_point(const int16_t* from, long depth, float factor, uint8_t* to) {
    typedef int16_t Part __attribute__((vector_size(2 * kLanes)));
    for (long c = 0; c < depth; c += kLanes) {
        Part v;
        memcpy(&v, from + c, sizeof v);
#if defined(__AVX512F__)
        const F number = (F)_mm512_cvtepi32_ps(_mm512_cvtepi16_epi32((__m256i)v));
#else
        const F number = to_floats(__builtin_convertvector(v, I));
#endif
        const B codes = narrowed(nearest(number * all(factor)) + all_sums(128));
        memcpy(to + c, &codes, sizeof codes);
    }
}

// Where a tile lies.
struct Place {
    long n;
    int row, column;

    Place(const Plan& p, const Form& f, long index) {
        n = index / (p.high * p.wide);
        row = int(index % (p.high * p.wide) / p.wide) * f.m;
        column = int(index % p.wide) * f.m;
    }
};

// Transforms and quantises tile `tile` of a block: memory holds its codes, then the scales; scratch the transforms.
template <int A>
void forward_tile(const Job& job, long block, int tile, char* memory, char* scratch) {
    const Convolution& v = job.shape;
    const Plan& p = job.plan;
    const Place place(p, job.form, block * p.block + tile);
    const uint8_t* const image = job.x + place.n * v.h * v.w * v.x_pitch;
    int16_t* const transforms = reinterpret_cast<int16_t*>(scratch);
    H sizes[A * A] = {};
    for (int channel = 0; channel < p.depth; channel += kWide)
        forward_codes<A>(job, image, place.row - v.pad_top, place.column - v.pad_left, channel, transforms, sizes);
    uint8_t* const codes = reinterpret_cast<uint8_t*>(memory);
    float* const scales = reinterpret_cast<float*>(memory + p.code_bytes()) + tile * kScaleFloats;
    for (int point = 0; point < A * A; ++point) {
        int16_t largest = 0;
        for (int lane = 0; lane < kWide; ++lane) largest = sizes[point][lane] > largest ? sizes[point][lane] : largest;
        scales[point] = float(largest) / 127.0f;
        quantise_point(transforms + point * long(p.depth), p.depth, largest ? 127.0f / float(largest) : 0.0f,
                       codes + (point * p.block + tile) * p.depth);
    }
}

// The nearest whole numbers, halves to even.
inline I whole(F v) {
#if defined(__SSE2__)
    return nearest(v);
#else
    const F shift = all(12582912.0f), size = v < 0 ? -v : v;
    return __builtin_convertvector(size < 4194304.0f ? (v + shift) - shift : v, I);
#endif
}

// Transforms a vector of sums of a tile back: to the nearest whole numbers, and what becomes of them.
template <int A, int M>
void inverse_codes(const Job& job, const Place& place, const int32_t* sums, long step, const float* tile_scales,
                   int channel) {
    const Convolution& v = job.shape;
    F half[M][A];
#pragma GCC unroll 8
    for (int j = 0; j < A; ++j) {
        F t[A], o[M];
#pragma GCC unroll 8
        for (int i = 0; i < A; ++i) {
            const int point = i * A + j;
            t[i] = to_floats(load_sums(sums + point * step)) *
                   (all(tile_scales[point]) * load(job.scales(point) + channel));
        }
        outputs_of<A, M>(t, o);
#pragma GCC unroll 8
        for (int i = 0; i < M; ++i) half[i][j] = o[i];
    }
    const I bias = load_sums(job.finish.bias + channel);
    for (int i = 0; i < M && place.row + i < v.out_h; ++i) {
        F o[M];
        outputs_of<A, M>(half[i], o);
        const long pixel = (place.n * v.out_h + place.row + i) * v.out_w + place.column;
#pragma GCC unroll 8
        for (int j = 0; j < M; ++j) {
            if (place.column + j >= v.out_w) continue;
            const I sum = whole(o[j]) + bias;
            if (job.finish.plain && v.k - channel >= kLanes)
                finish_plain(sum, job.finish, pixel + j, channel);
            else
                finish(sum, job.finish, pixel + j, channel, v.k - channel);
        }
    }
}

// One block of tiles times one panel of outputs, to the end.
template <int A, int M>
void multiply_block(const Job& job, long block, int panel, const char* memory, char* scratch) {
    const Plan& p = job.plan;
    const Tiles<kTileRows> rows(p.block_tiles(block));
    const int vectors = p.panels.vectors(panel);
    int32_t* const sums = reinterpret_cast<int32_t*>(scratch);
    const long step = p.block * kTileColumns, offset = 0;
    const Runs runs{&offset, 1, p.depth / 4, p.depth / 4};
    const IntegerEpilogue plain{};  // sums
    for (int point = 0; point < p.points; ++point) {
        // The panel's columns are all there: those beyond the last have zero weights.
        const Finish to(plain, job.corrections(point) + panel * kTileColumns, nullptr, sums + point * step,
                        kTileColumns, 0.0f);
        const uint8_t* const codes = reinterpret_cast<const uint8_t*>(memory) + point * p.block * p.depth;
        for (int t = 0; t < rows.count; ++t) {
            const int begin = rows.begin(t);
            multiply_codes(rows.begin(t + 1) - begin, vectors)(codes + long(begin) * p.depth, p.depth, runs,
                                                               job.panels(point) + p.panels.offset(panel),
                                                               {to, begin, 0, vectors * kLanes});
        }
    }
    const float* const scales = reinterpret_cast<const float*>(memory + p.code_bytes());
    for (int tile = 0; tile < rows.rows; ++tile) {
        const Place place(p, job.form, block * p.block + tile);
        for (int vector = 0; vector < vectors; ++vector)
            inverse_codes<A, M>(job, place, sums + tile * long(kTileColumns) + vector * kLanes, step,
                                scales + tile * kScaleFloats, panel * kTileColumns + vector * kLanes);
    }
}

template <int A, int M>
void fused_part(void* context, size_t part, int worker) {
    const Job& job = *static_cast<const Job*>(context);
    const Plan& p = job.plan;
    char* const scratch = job.worker(worker);
    char* const memory = scratch + p.tile_bytes() + p.sum_bytes();
    for (int tile = 0; tile < p.block_tiles(long(part)); ++tile)
        forward_tile<A>(job, long(part), tile, memory, scratch);
    for (int panel = 0; panel < p.panels.count(); ++panel)
        multiply_block<A, M>(job, long(part), panel, memory, scratch + p.tile_bytes());
}

template <int A>
void forward_part(void* context, size_t part, int worker) {
    const Job& job = *static_cast<const Job*>(context);
    const long block = long(part) / job.plan.block;
    const int tile = int(part % job.plan.block);
    if (tile < job.plan.block_tiles(job.first_block + block))
        forward_tile<A>(job, job.first_block + block, tile, job.shared + block * job.plan.block_bytes(),
                        job.worker(worker));
}

template <int A, int M>
void multiply_part(void* context, size_t part, int worker) {
    const Job& job = *static_cast<const Job*>(context);
    const Plan& p = job.plan;
    const long block = long(part) / p.panels.count();
    multiply_block<A, M>(job, job.first_block + block, int(part % p.panels.count()),
                         job.shared + block * p.block_bytes(), job.worker(worker) + p.tile_bytes());
}

// Transforms the weights of a point and rounds them to bytes, scaled by the largest of each output channel.
template <int A, int M>
void prepare_form(const Convolution& v, const int8_t* w_kcrs, void* prepared) {
    constexpr int kR = A - M + 1;
    const Form form{A, M};
    const Plan p(v, form, 1);
    sum_weights(v, w_kcrs, static_cast<int32_t*>(prepared));
    char* const points = static_cast<char*>(prepared) + weight_sums_bytes(v);
    // A lane's transforms, of which the first lane is used.
    const auto transformed = [&](int k, int c, F(&to)[A* A]) {
        F half[A][kR];
        for (int s = 0; s < kR; ++s) {
            F g[kR], o[A];
            for (int r = 0; r < kR; ++r) g[r] = all(float(w_kcrs[((long(k) * v.c + c) * kR + r) * kR + s]));
            kernel_codes<A>(g, o);
            for (int i = 0; i < A; ++i) half[i][s] = o[i];
        }
        for (int i = 0; i < A; ++i) {
            F o[A];
            kernel_codes<A>(half[i], o);
            for (int j = 0; j < A; ++j) to[i * A + j] = o[j];
        }
    };
    for (int point = 0; point < p.points; ++point) memset(points + point * p.point_bytes(), 0, size_t(p.point_bytes()));
    for (int k = 0; k < v.k; ++k) {
        float largest[A * A] = {};
        F to[A * A];
        for (int c = 0; c < v.c; ++c) {
            transformed(k, c, to);
            for (int point = 0; point < A * A; ++point) {
                const float size = to[point][0] < 0 ? -to[point][0] : to[point][0];
                if (size > largest[point]) largest[point] = size;
            }
        }
        const int panel = k / kTileColumns, column = k % kTileColumns, width = p.panels.vectors(panel) * kLanes;
        for (int c = 0; c < v.c; ++c) {
            transformed(k, c, to);
            for (int point = 0; point < A * A; ++point) {
                const float factor = largest[point] > 0 ? 127.0f / largest[point] : 0.0f;
                const int8_t code = int8_t(nearest(to[point] * all(factor))[0]);
                int8_t* const panels = reinterpret_cast<int8_t*>(points + point * p.point_bytes());
                panels[p.panels.offset(panel) + (long(c / 4) * width + column) * 4 + c % 4] = code;
                int32_t* const corrections = reinterpret_cast<int32_t*>(points + point * p.point_bytes() +
                                                                        round_up(p.panels.bytes(), kAlignment));
                corrections[k] -= 128 * code;
                reinterpret_cast<float*>(corrections + p.outputs())[k] = largest[point] / 127.0f;
            }
        }
    }
}

template <int A, int M>
struct IntegerForm {
    static constexpr Form kForm{A, M};

    static bool supports(const Convolution& v) {
        return is_dense(v) && v.r == A - M + 1 && v.s == A - M + 1 && v.c <= kMostProducts / 9;
    }
    static size_t prepared_bytes(const Convolution& v) {
        const Plan p(v, kForm, 1);
        return weight_sums_bytes(v) + size_t(p.points * p.point_bytes());
    }
    static void prepare(const Convolution& v, const int8_t* w_kcrs, void* prepared) {
        prepare_form<A, M>(v, w_kcrs, prepared);
    }
    static size_t workspace_bytes(const Convolution& v, int threads) {
        const Plan p(v, kForm, threads);
        return finish_bytes(v) + size_t(p.shared_bytes() + threads * p.worker_bytes());
    }
    static void run(const Convolution& v, const IntegerInput& input, const uint8_t* x, const void* prepared, void* y,
                    const IntegerEpilogue& epilogue, void* workspace, int threads) {
        const Plan p(v, kForm, threads);
        if (p.tiles == 0) return;
        char* const shared = static_cast<char*>(workspace) + finish_bytes(v);
        Job job{v,
                kForm,
                p,
                input,
                x,
                static_cast<const char*>(prepared) + weight_sums_bytes(v),
                prepare_finish(v, 0, static_cast<const int32_t*>(prepared), y, epilogue, workspace),
                shared,
                shared + p.shared_bytes(),
                0};
        if (p.fused) {
            parallel_parts(size_t(p.blocks), threads, fused_part<A, M>, &job);
            return;
        }
        for (; job.first_block < p.blocks; job.first_block += p.group) {
            const long count = p.blocks - job.first_block < p.group ? p.blocks - job.first_block : p.group;
            parallel_parts(size_t(count * p.block), threads, forward_part<A>, &job);
            parallel_parts(size_t(count * p.panels.count()), threads, multiply_part<A, M>, &job);
        }
    }
    static constexpr IntegerAlgorithm entry(const char* name) {
        return {name, supports, prepared_bytes, prepare, workspace_bytes, run};
    }
};

}  // namespace

const IntegerAlgorithm kIntegerWinograd[kIntegerWinogradForms] = {
    IntegerForm<4, 2>::entry("int8_winograd_2x2_3x3"),
    IntegerForm<6, 4>::entry("int8_winograd_4x4_3x3"),
};

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
