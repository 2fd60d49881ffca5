// The gradient of a convolution's weights by Winograd's algorithm F(R x R, M x M): a tile of the image correlated with
// a tile of the output's gradient gives R x R sums, one for each tap. Compiled once per instruction set.
//
// Windows and gradient tiles are transformed, at each point the outer products of channels are summed over all tiles,
// and only the sums are transformed back. The transforms are those of convolution_winograd.cc with other roles: the
// gradient of the output takes the part of the kernel. Lavin & Gray 2016, arXiv 1509.09308, section 4.
// A thread takes some channels and some outputs, and tiles come in groups; sums are in the order of the tiles, so that
// the result does not depend on the threads.
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
    void (*inverse)(float* sums, long step);

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
    kernel_rows<A>(half, to, step);
}

// Transforms a vector of sums back in place: point t, then tap t, at sums[t * step].
template <int A, int R>
void sums_vector(float* sums, long step) {
    F half[R][A];
    inverse_columns<A>(sums, step, half);
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) {
        F o[R];
        inverse<A, R>(half[i], o);
#pragma GCC unroll 8
        for (int j = 0; j < R; ++j) store(sums + (i * R + j) * step, o[j]);
    }
}

struct Plan {
    int panels;
    long high, wide, tiles, group;  // tiles down, across, of all images, of a group
    Shares shares;
    long left_point, right_point;  // floats of a point, an odd number of cache lines
    long unit_floats;              // the sums of a tile of channels and a panel at all points

    Plan(const Convolution& v, const Transforms& t, int threads)
        : panels(panel_count(v.k)),
          high((v.out_h + t.m - 1) / t.m),
          wide((v.out_w + t.m - 1) / t.m),
          tiles(v.n * high * wide),
          shares(RowTiles(v.c).count, panels, 1, threads),
          unit_floats(t.points() * kOuterTile) {
        const long place = long(shares.most_tiles()) * kLeft + long(shares.most_panels()) * kPanel;
        const long sums = shares.most_tiles() * shares.most_panels() * unit_floats;
        // Points of a group stay in the second-level cache, if the sums, which are read and written for each group, do
        // so too; else the more tiles the better, as long as the third-level cache holds their points.
        const long near = long(caches().second) / 2 / long(sizeof(float));
        const long far = sums > kFar ? sums : kFar;
        group = (sums <= near ? near : far) / (t.points() * place);
        if (group < kFewest) group = kFewest;
        if (group > tiles) group = tiles;
        left_point = odd_lines(group * shares.most_tiles() * kLeft);
        right_point = odd_lines(group * shares.most_panels() * kPanel);
    }

    static constexpr long kFewest = 16, kFar = (long(4) << 20) / long(sizeof(float));

    long right_floats(const Transforms& t) const { return t.points() * right_point; }
    long worker_floats(const Transforms& t) const {
        return t.points() * left_point + right_floats(t) + shares.most_tiles() * shares.most_panels() * unit_floats;
    }
};

struct Job {
    const Convolution& shape;
    const Transforms& transforms;
    const Plan plan;
    const float* x;
    const float* dy;
    float* dw_kcrs;
    float* workers;
};

// What one thread does, and its tiles at hand.
struct Work {
    const Job& job;
    const Share share;
    float* const left;
    float* const right;
    float* const sums;
    long first, count;

    Work(const Job& whole, int part, int worker)
        : job(whole),
          share(whole.plan.shares.share(part)),
          left(whole.workers + worker * whole.plan.worker_floats(whole.transforms)),
          right(left + whole.transforms.points() * whole.plan.left_point),
          sums(right + whole.plan.right_floats(whole.transforms)),
          first(0),
          count(0) {}
};

// Transforms both tiles of one place.
void transform(const Work& w, long place) {
    const Convolution& v = w.job.shape;
    const Plan& p = w.job.plan;
    const Transforms& t = w.job.transforms;
    const long index = w.first + place, area = p.high * p.wide, n = index / area;
    const int row = int(index % area / p.wide) * t.m, column = int(index % p.wide) * t.m;
    const Tile tile{w.job.x + n * v.h * v.w * v.x_pitch, row - v.pad_top, column - v.pad_left, 0, 0, 0};
    const RowTiles rows(v.c);
    for (int i = 0; i < w.share.tiles; ++i) {
        const int begin = rows.begin(w.share.first_tile + i), end = rows.begin(w.share.first_tile + i + 1);
        float* const to = w.left + (i * w.count + place) * kLeft;
        for (int lane = 0; lane < end - begin; lane += kLanes)
            t.forward(v, tile, begin + lane, to + lane, p.left_point);
    }
    const float* const dy = w.job.dy + ((n * v.out_h + row) * v.out_w + column) * v.y_pitch;
    for (int j = 0; j < w.share.panels; ++j) {
        const int panel = w.share.first_panel + j, width = panel_vectors(v.k, panel) * kLanes;
        float* const to = w.right + j * kPanel * w.count + place * width;
        for (int lane = 0; lane < width; lane += kLanes) {
            const int channel = panel * kPanel + lane;
            t.gradient(dy + channel, v.y_pitch, long(v.out_w) * v.y_pitch, v.out_h - row, v.out_w - column,
                       v.k - channel, to + lane, p.right_point);
        }
    }
}

// Adds up the group's tiles at all points, a point after the other, whose factors stay in the cache.
void add_group(const Work& w) {
    const Plan& p = w.job.plan;
    const RowTiles rows(w.job.shape.c);
    const Depth depth{1, int(w.count), kLeft, 0};
    for (int point = 0; point < w.job.transforms.points(); ++point)
        for (int j = 0; j < w.share.panels; ++j)
            for (int i = 0; i < w.share.tiles; ++i) {
                const int tile = w.share.first_tile + i, size = rows.begin(tile + 1) - rows.begin(tile);
                add_outer(size, panel_vectors(w.job.shape.k, w.share.first_panel + j))(
                    w.left + point * p.left_point + i * w.count * kLeft,
                    w.right + point * p.right_point + j * kPanel * w.count, depth, w.first == 0,
                    w.sums + (j * w.share.tiles + i) * p.unit_floats + point * kOuterTile);
            }
}

// Transforms the sums of a tile of channels and a panel of outputs back.
void write_unit(const Work& w, int i, int j) {
    const Convolution& v = w.job.shape;
    const Transforms& t = w.job.transforms;
    const RowTiles rows(v.c);
    const int tile = w.share.first_tile + i, panel = w.share.first_panel + j, vectors = panel_vectors(v.k, panel);
    const int begin = rows.begin(tile), size = rows.begin(tile + 1) - begin;
    float* const sums = w.sums + (j * w.share.tiles + i) * w.job.plan.unit_floats;
    for (int at = 0; at < size * vectors * kLanes; at += kLanes) t.inverse(sums + at, kOuterTile);
    write_taps(sums, kOuterTile, t.taps(), begin, size, v.c, vectors, long(panel) * kPanel, v.k - panel * kPanel,
               w.job.dw_kcrs);
}

void sum_part(void* context, size_t part, int worker) {
    const Job& job = *static_cast<const Job*>(context);
    const Plan& p = job.plan;
    Work w(job, int(part), worker);
    for (; w.first < p.tiles; w.first += p.group) {
        w.count = p.tiles - w.first < p.group ? p.tiles - w.first : p.group;
        for (long place = 0; place < w.count; ++place) transform(w, place);
        add_group(w);
    }
    for (int j = 0; j < w.share.panels; ++j)
        for (int i = 0; i < w.share.tiles; ++i) write_unit(w, i, j);
}

size_t workspace_floats(const Convolution& v, const Transforms& t, int threads) {
    return size_t(threads * Plan(v, t, threads).worker_floats(t));
}

void run_transforms(const Convolution& v, const Transforms& t, const float* x, const float* dy, float* dw_kcrs,
                    void* workspace, int threads) {
    const Plan p(v, t, threads);
    if (p.tiles == 0) {
        memset(dw_kcrs, 0, size_t(v.k) * size_t(v.c) * size_t(t.taps()) * sizeof(float));
        return;
    }
    Job job{v, t, p, x, dy, dw_kcrs, static_cast<float*>(workspace)};
    parallel_parts(size_t(p.shares.count()), threads, sum_part, &job);
}

template <int A, int M>
struct Gradient {
    static constexpr int kR = A - M + 1;
    static constexpr Transforms kTransforms = {A, M, forward_vector<A, A>, gradient_vector<A, M>, sums_vector<A, kR>};

    static bool supports(const Convolution& v) { return is_dense(v) && v.r == kR && v.s == kR; }
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
