// The gradient of a convolution's weights by Winograd's algorithm F(R x R, M x M): a tile of the image correlated with
// a tile of the output's gradient gives R x R sums, one for each tap. Compiled once per instruction set.
//
// Windows and gradient tiles are transformed, at each point the outer products of channels are summed over all tiles,
// and only the sums are transformed back. The transforms are those of convolution_winograd.cc with other roles: the
// gradient of the output takes the part of the kernel. Lavin & Gray 2016, arXiv 1509.09308, section 4.
// Tiles come in groups whose points fit the third-level cache; sums are in the order of the tiles, so that the result
// does not depend on the threads.
#include "gradient_levels.h"
#include "outer.h"
#include "parts.h"
#include "winograd_tiles.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

struct Transforms {
    int a, m;
    void (*forward)(const Convolution&, const Tile&, int channel, float* to, long step);
    void (*gradient)(const float* dy, long pitch, long line, int rows, int columns, int count, float* to, long step);
    void (*inverse)(const float* from, long from_step, float* to, long to_step);

    constexpr int points() const { return a * a; }
    constexpr int taps() const { return (a - m + 1) * (a - m + 1); }
};

// Transforms a vector of `count` channels of one M x M tile of the output's gradient, of which rows x columns exist.
template <int A, int M>
void gradient_vector(const float* dy, long pitch, long line, int rows, int columns, int count, float* to, long step) {
    F half[A][M];
#pragma GCC unroll 8
    for (int j = 0; j < M; ++j) {
        F g[M], o[A];
#pragma GCC unroll 8
        for (int i = 0; i < M; ++i) {
            const float* const at = dy + i * line + j * pitch;
            const bool exists = i < rows && j < columns && count > 0;
            g[i] = !exists ? all(0.0f) : count >= kLanes ? load(at) : load_part(at, count);
        }
        kernel<A, M>(g, o);
#pragma GCC unroll 8
        for (int i = 0; i < A; ++i) half[i][j] = o[i];
    }
#pragma GCC unroll 8
    for (int i = 0; i < A; ++i) {
        F o[A];
        kernel<A, M>(half[i], o);
#pragma GCC unroll 8
        for (int j = 0; j < A; ++j) store(to + (i * A + j) * step, o[j]);
    }
}

// Transforms a vector of sums back: point t at from[t * from_step], tap t to to[t * to_step].
template <int A, int R>
void sums_vector(const float* from, long from_step, float* to, long to_step) {
    F half[R][A];
#pragma GCC unroll 8
    for (int j = 0; j < A; ++j) {
        F t[A], o[R];
#pragma GCC unroll 8
        for (int i = 0; i < A; ++i) t[i] = load(from + (i * A + j) * from_step);
        inverse<A, R>(t, o);
#pragma GCC unroll 8
        for (int i = 0; i < R; ++i) half[i][j] = o[i];
    }
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) {
        F o[R];
        inverse<A, R>(half[i], o);
#pragma GCC unroll 8
        for (int j = 0; j < R; ++j) store(to + (i * R + j) * to_step, o[j]);
    }
}

struct Plan {
    int panels;
    long high, wide, tiles, group;  // tiles down, across, of all images, of a group
    long left_point, right_point;   // floats of a point
    long unit_floats;               // the sums of a tile of channels and a panel at all points
    long unit_count;
    bool kept;  // the sums of all units, since there is more than one group

    Plan(const Convolution& v, const Transforms& t)
        : panels(panel_count(v.k)),
          high((v.out_h + t.m - 1) / t.m),
          wide((v.out_w + t.m - 1) / t.m),
          tiles(v.n * high * wide) {
        const RowTiles rows(v.c);
        const long tile_floats = rows.count * long(kLeft) + round_up(v.k, kLanes);
        unit_floats = t.points() * kOuterTile;
        unit_count = long(panels) * rows.count;
        // Sums that are kept are read and written once for each group: groups are no smaller than they are.
        const long all_sums = unit_count * unit_floats;
        const long budget = all_sums > kBudget ? all_sums : kBudget;
        group = budget / (t.points() * tile_floats);
        if (group < 1) group = 1;
        if (group > tiles) group = tiles;
        kept = group < tiles;
        left_point = group * rows.count * kLeft;
        right_point = group * round_up(v.k, kLanes);
    }

    static constexpr long kBudget = (long(16) << 20) / long(sizeof(float));
};

struct Job {
    const Convolution& shape;
    const Transforms& transforms;
    const Plan plan;
    const float* x;
    const float* dy;
    float* dw_kcrs;
    float* left;
    float* right;
    float* sums;
    long first, count;  // tiles of the group at work

    bool last() const { return first + count == plan.tiles; }
};

// Transforms both tiles of one place.
void transform_part(void* context, size_t part, int) {
    const Job& job = *static_cast<const Job*>(context);
    const Convolution& v = job.shape;
    const Plan& p = job.plan;
    const Transforms& t = job.transforms;
    const long index = job.first + long(part), area = p.high * p.wide, n = index / area;
    const int row = int(index % area / p.wide) * t.m, column = int(index % p.wide) * t.m;
    const Tile tile{job.x + n * v.h * v.w * v.x_pitch, row - v.pad_top, column - v.pad_left, 0, 0, 0};
    const RowTiles rows(v.c);
    for (int i = 0; i < rows.count; ++i)
        for (int lane = 0; lane < rows.begin(i + 1) - rows.begin(i); lane += kLanes)
            t.forward(v, tile, rows.begin(i) + lane, job.left + (i * job.count + long(part)) * kLeft + lane,
                      p.left_point);
    const float* const dy = job.dy + ((n * v.out_h + row) * v.out_w + column) * v.y_pitch;
    for (int panel = 0; panel < p.panels; ++panel) {
        const int width = panel_vectors(v.k, panel) * kLanes;
        float* const to = job.right + panel * kPanel * job.count + long(part) * width;
        for (int lane = 0; lane < width; lane += kLanes) {
            const int channel = panel * kPanel + lane;
            t.gradient(dy + channel, v.y_pitch, long(v.out_w) * v.y_pitch, v.out_h - row, v.out_w - column,
                       v.k - channel, to + lane, p.right_point);
        }
    }
}

// Adds up one tile of channels and one panel of outputs at all points; the last group's goes back to the weights.
void add_part(void* context, size_t part, int worker) {
    const Job& job = *static_cast<const Job*>(context);
    const Convolution& v = job.shape;
    const Plan& p = job.plan;
    const Transforms& t = job.transforms;
    const RowTiles rows(v.c);
    const int tile = int(part % rows.count), panel = int(part / rows.count), vectors = panel_vectors(v.k, panel);
    const int begin = rows.begin(tile), size = rows.begin(tile + 1) - begin, pitch = vectors * kLanes;
    float* const sums = job.sums + (p.kept ? long(part) : worker) * p.unit_floats;
    const AddOuter add = add_outer(size, vectors);
    const Depth depth{1, int(job.count), kLeft, 0};
    for (int point = 0; point < t.points(); ++point)
        add(job.left + point * p.left_point + tile * job.count * kLeft,
            job.right + point * p.right_point + panel * kPanel * job.count, depth, job.first == 0,
            sums + point * kOuterTile);
    if (!job.last()) return;
    for (int at = 0; at < size * pitch; at += kLanes) t.inverse(sums + at, kOuterTile, sums + at, kOuterTile);
    write_taps(sums, kOuterTile, t.taps(), begin, size, v.c, vectors, long(panel) * kPanel, v.k - panel * kPanel,
               job.dw_kcrs);
}

size_t workspace_floats(const Convolution& v, const Transforms& t, int threads) {
    const Plan p(v, t);
    const long units = p.kept ? p.unit_count : threads;
    return size_t(t.points() * (p.left_point + p.right_point) + units * p.unit_floats);
}

void run_transforms(const Convolution& v, const Transforms& t, const float* x, const float* dy, float* dw_kcrs,
                    void* workspace, int threads) {
    const Plan p(v, t);
    if (p.tiles == 0) {
        memset(dw_kcrs, 0, size_t(v.k) * size_t(v.c) * size_t(t.taps()) * sizeof(float));
        return;
    }
    float* const left = static_cast<float*>(workspace);
    float* const right = left + t.points() * p.left_point;
    Job job{v, t, p, x, dy, dw_kcrs, left, right, right + t.points() * p.right_point, 0, 0};
    for (; job.first < p.tiles; job.first += p.group) {
        job.count = p.tiles - job.first < p.group ? p.tiles - job.first : p.group;
        parallel_parts(size_t(job.count), threads, transform_part, &job);
        parallel_parts(size_t(p.unit_count), threads, add_part, &job);
    }
}

template <int A, int M>
struct Gradient {
    static constexpr int kR = A - M + 1;
    static constexpr Transforms kTransforms = {A, M, forward_vector<A, A>, gradient_vector<A, M>, sums_vector<A, kR>};

    static bool supports(const Convolution& v) {
        return v.stride_h == 1 && v.stride_w == 1 && v.dilation_h == 1 && v.dilation_w == 1 && v.groups == 1 &&
               v.r == kR && v.s == kR;
    }
    static size_t workspace_bytes(const Convolution& v, int threads) {
        return workspace_floats(v, kTransforms, threads) * sizeof(float);
    }
    static void weights(const Convolution& v, const float* x, const float* dy, float* dw_kcrs, void* workspace,
                        int threads) {
        run_transforms(v, kTransforms, x, dy, dw_kcrs, workspace, threads);
    }
    static constexpr GradientAlgorithm entry(const char* name) { return {name, supports, workspace_bytes, weights}; }
};

}  // namespace

const GradientAlgorithm kWinogradGradients[kWinogradGradientForms] = {
    Gradient<6, 4>::entry("winograd_3x3_4x4"),
    Gradient<8, 4>::entry("winograd_5x5_4x4"),
};

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
