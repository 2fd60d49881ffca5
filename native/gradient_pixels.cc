// The gradient of a convolution's weights as sums over pixels: for each tap, the outer products of image and output
// gradient. Takes every kernel, stride, dilation, padding and group. Compiled once per instruction set.
//
// A thread takes some channels and some outputs of a group. Pixels come in chunks whose image and gradient it packs
// into its second-level cache, zeros around the image included; then all its tiles of all taps are gone through. Every
// tile sums in the order of the pixels, so that the result does not depend on the threads. Where a group has fewer
// channels than a tile has rows, the taps of a kernel row count as more channels: a pixel's left factor is then the
// adjacent floats of that row of the window.
#include "gradient_levels.h"
#include "outer.h"
#include "parts.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

struct Plan {
    int channels, columns, panels;
    bool merged;     // the taps of a kernel row are rows of a tile
    int rows;        // of all tiles of a group: channels, times the taps of a kernel row where merged
    int wide, step;  // packed places of an image line, and from one output to the next
    int line_taps;   // taps of a kernel row for which tiles of their own exist
    int taps;        // of all rows
    Shares shares;
    int images, lines, in_lines;  // of a chunk: some lines of one image, or all of several
    long left_image, left_tile, right_panel, line_floats;

    Plan(const Convolution& v, int threads)
        : channels(v.c / v.groups),
          columns(v.k / v.groups),
          panels(panel_count(columns)),
          merged(channels < kRows && v.s > 1 && v.dilation_w == 1 && v.groups == 1),
          rows(merged ? channels * v.s : channels),
          wide(merged ? v.out_w : (v.out_w - 1) * v.stride_w + (v.s - 1) * v.dilation_w + 1),
          step(merged ? 1 : v.stride_w),
          line_taps(merged ? 1 : v.s),
          taps(v.r * line_taps),
          shares(row_tiles().count, panels, taps, (threads + v.groups - 1) / v.groups) {
        const long floats = long(shares.most_tiles()) * kLeft + long(shares.most_panels()) * kPanel;
        const long most = long(caches().second) / 2 / long(sizeof(float)) / floats;
        const long pixels = most < kFewest ? kFewest : most;
        lines = int(pixels / v.out_w < 1 ? 1 : pixels / v.out_w < v.out_h ? pixels / v.out_w : v.out_h);
        images = lines < v.out_h ? 1 : int(pixels / (long(lines) * v.out_w));
        if (images > v.n) images = v.n;
        if (images < 1) images = 1;
        in_lines = in_lines_of(v, lines);
        left_image = long(in_lines) * wide * kLeft;
        left_tile = images * left_image;
        right_panel = long(images) * lines * v.out_w * kPanel;
        line_floats = merged ? round_up(long((v.out_w - 1) * v.stride_w + v.s) * channels + kLeft, kLanes) : 0;
    }

    // With fewer pixels, loading and storing the sums would show.
    static constexpr long kFewest = 200;

    // Lines of the image that so many lines of outputs need.
    static int in_lines_of(const Convolution& v, int count) {
        return (count - 1) * v.stride_h + (v.r - 1) * v.dilation_h + 1;
    }
    RowTiles row_tiles() const { return RowTiles(rows); }
    int vectors(int panel) const { return panel_vectors(columns, panel); }
    long left_floats() const { return shares.most_tiles() * left_tile; }
    long worker_floats() const { return left_floats() + shares.most_panels() * right_panel + line_floats; }
    // The number of a tile's first tap.
    long number(int group, int panel, int tile) const {
        return ((long(group) * panels + panel) * row_tiles().count + tile) * taps;
    }
};

struct Job {
    const Convolution& shape;
    const Plan plan;
    const float* x;
    const float* dy;
    float* dw_kcrs;
    float* tiles;
    float* workers;
};

// What one thread does for its share of a group, and the chunk at hand.
struct Work {
    const Job& job;
    const Convolution& v;
    const Plan& p;
    const int group;
    const Share share;
    float* const left;
    float* const right;
    float* const window_line;
    int image, line, images, lines;

    Work(const Job& whole, int part, int worker)
        : job(whole),
          v(whole.shape),
          p(whole.plan),
          group(part / whole.plan.shares.count()),
          share(whole.plan.shares.share(part % whole.plan.shares.count())),
          left(whole.workers + worker * whole.plan.worker_floats()),
          right(left + whole.plan.left_floats()),
          window_line(right + whole.plan.shares.most_panels() * whole.plan.right_panel),
          image(0),
          line(0),
          images(0),
          lines(0) {}
};

// Copies a vector's worth of floats, zeros after the first `count`.
inline void copy_part(float* to, const float* from, int count) {
    store(to, count >= kLanes ? load(from) : count > 0 ? load_part(from, count) : all(0.0f));
}

// Packs one pixel of a line into all tiles; null: zeros.
inline void pack_pixel(const Work& w, const RowTiles& tiles, const float* pixel, float* to) {
    for (int i = 0; i < w.share.tiles; ++i, to += w.p.left_tile) {
        const int begin = w.group * w.p.channels + tiles.begin(w.share.first_tile + i);
        for (int lane = 0; lane < kLeft; lane += kLanes) {
            if (pixel)
                copy_part(to + lane, pixel + begin + lane, w.v.c - begin - lane);
            else
                store(to + lane, all(0.0f));
        }
    }
}

// The image's line, zeros around it included, as adjacent floats; then the tiles of each output's row of taps.
void pack_merged_line(const Work& w, const float* line, float* to) {
    const int across = (w.v.out_w - 1) * w.v.stride_w + w.v.s;
    float* at = w.window_line;
    for (int column = -w.v.pad_left; column < across - w.v.pad_left; ++column, at += w.p.channels)
        for (int c = 0; c < w.p.channels; ++c)
            at[c] = line && column >= 0 && column < w.v.w ? line[long(column) * w.v.x_pitch + c] : 0.0f;
    for (; at < w.window_line + w.p.line_floats; ++at) *at = 0.0f;
    const RowTiles tiles = w.p.row_tiles();
    for (int i = 0; i < w.share.tiles; ++i, to += w.p.left_tile) {
        const float* const from = w.window_line + tiles.begin(w.share.first_tile + i);
        for (int column = 0; column < w.v.out_w; ++column)
            for (int lane = 0; lane < kLeft; lane += kLanes)
                store(to + column * kLeft + lane, load(from + long(column) * w.v.stride_w * w.p.channels + lane));
    }
}

// Packs line `index` of the image's lines that the chunk needs.
void pack_left(const Work& w, int image, int index) {
    const Convolution& v = w.v;
    const int i = w.line * v.stride_h - v.pad_top + index;
    const bool exists = i >= 0 && i < v.h;
    const float* const line = exists ? w.job.x + (long(w.image + image) * v.h + i) * v.w * v.x_pitch : nullptr;
    float* const to = w.left + image * w.p.left_image + long(index) * w.p.wide * kLeft;
    if (w.p.merged) return pack_merged_line(w, line, to);
    const RowTiles tiles = w.p.row_tiles();
    for (int column = 0; column < w.p.wide; ++column) {
        const int j = column - v.pad_left;
        const bool inside = line && j >= 0 && j < v.w;
        pack_pixel(w, tiles, inside ? line + long(j) * v.x_pitch : nullptr, to + long(column) * kLeft);
    }
}

// Packs a line of the output's gradient into all panels.
void pack_right(const Work& w, int image, int index) {
    const Convolution& v = w.v;
    const float* pixel = w.job.dy + (long(w.image + image) * v.out_h + w.line + index) * v.out_w * v.y_pitch;
    const long place = (long(image) * w.lines + index) * v.out_w;
    for (int column = 0; column < v.out_w; ++column, pixel += v.y_pitch)
        for (int i = 0; i < w.share.panels; ++i) {
            const int panel = w.share.first_panel + i, width = w.p.vectors(panel) * kLanes, begin = panel * kPanel;
            float* const to = w.right + i * w.p.right_panel + (place + column) * width;
            for (int lane = 0; lane < width; lane += kLanes)
                copy_part(to + lane, pixel + w.group * w.p.columns + begin + lane, w.p.columns - begin - lane);
        }
}

// Adds the chunk to one tile of one tap.
void add_tile(const Work& w, int i, int j, int tap) {
    const Convolution& v = w.v;
    const RowTiles tiles = w.p.row_tiles();
    const int tile = w.share.first_tile + i, panel = w.share.first_panel + j, vectors = w.p.vectors(panel);
    const int r = tap / w.p.line_taps, s = tap % w.p.line_taps;
    const AddOuter add = add_outer(tiles.begin(tile + 1) - tiles.begin(tile), vectors);
    const Depth depth{w.lines, v.out_w, long(w.p.step) * kLeft, long(v.stride_h) * w.p.wide * kLeft};
    const float* left =
        w.left + i * w.p.left_tile + (long(r) * v.dilation_h * w.p.wide + long(s) * v.dilation_w) * kLeft;
    const float* right = w.right + j * w.p.right_panel;
    float* const sums = w.job.tiles + (w.p.number(w.group, panel, tile) + tap) * kOuterTile;
    for (int image = 0; image < w.images; ++image) {
        add(left, right, depth, w.image + image == 0 && w.line == 0, sums);
        left += w.p.left_image;
        right += long(w.lines) * v.out_w * vectors * kLanes;
    }
}

void add_chunk(const Work& w) {
    for (int image = 0; image < w.images; ++image) {
        for (int index = 0; index < Plan::in_lines_of(w.v, w.lines); ++index) pack_left(w, image, index);
        for (int index = 0; index < w.lines; ++index) pack_right(w, image, index);
    }
    for (int j = 0; j < w.share.panels; ++j)
        for (int i = 0; i < w.share.tiles; ++i)
            for (int tap = 0; tap < w.p.taps; ++tap) add_tile(w, i, j, tap);
}

// Where the taps of a kernel row are rows, a row is a tap and a channel.
void write_merged(const Work& w, int tile, int panel) {
    const RowTiles tiles = w.p.row_tiles();
    const int begin = tiles.begin(tile), rows = tiles.begin(tile + 1) - begin, left = w.p.columns - panel * kPanel;
    for (int r = 0; r < w.v.r; ++r)
        for (int row = 0; row < rows; ++row) {
            const int s = (begin + row) / w.p.channels, c = (begin + row) % w.p.channels;
            const float* const from = w.job.tiles + (w.p.number(w.group, panel, tile) + r) * kOuterTile +
                                      long(row) * w.p.vectors(panel) * kLanes;
            for (int j = 0; j < left && j < kPanel; ++j)
                w.job.dw_kcrs[((long(panel * kPanel + j) * w.p.channels + c) * w.v.r + r) * w.v.s + s] = from[j];
        }
}

void write_tile(const Work& w, int tile, int panel) {
    if (w.p.merged) return write_merged(w, tile, panel);
    const RowTiles tiles = w.p.row_tiles();
    const int begin = tiles.begin(tile), rows = tiles.begin(tile + 1) - begin;
    write_taps(w.job.tiles + w.p.number(w.group, panel, tile) * kOuterTile, kOuterTile, w.p.taps, begin, rows,
               w.p.channels, w.p.vectors(panel), long(w.group) * w.p.columns + panel * kPanel,
               w.p.columns - panel * kPanel, w.job.dw_kcrs);
}

void sum_part(void* context, size_t part, int worker) {
    const Job& job = *static_cast<const Job*>(context);
    const Convolution& v = job.shape;
    const Plan& p = job.plan;
    Work w(job, int(part), worker);
    for (w.image = 0; w.image < v.n; w.image += p.images)
        for (w.line = 0; w.line < v.out_h; w.line += p.lines) {
            w.images = v.n - w.image < p.images ? v.n - w.image : p.images;
            w.lines = v.out_h - w.line < p.lines ? v.out_h - w.line : p.lines;
            add_chunk(w);
        }
    for (int i = 0; i < w.share.tiles; ++i)
        for (int j = 0; j < w.share.panels; ++j) write_tile(w, w.share.first_tile + i, w.share.first_panel + j);
}

bool supports(const Convolution&) { return true; }

long tile_floats(const Convolution& v, const Plan& p) { return p.number(v.groups, 0, 0) * kOuterTile; }

size_t workspace_bytes(const Convolution& v, int threads) {
    const Plan p(v, threads);
    return size_t(tile_floats(v, p) + threads * p.worker_floats()) * sizeof(float);
}

void weights(const Convolution& v, const float* x, const float* dy, float* dw_kcrs, void* workspace, int threads) {
    const Plan p(v, threads);
    if (v.n == 0) {
        memset(dw_kcrs, 0, size_t(v.k) * size_t(p.channels) * size_t(v.r) * size_t(v.s) * sizeof(float));
        return;
    }
    float* const tiles = static_cast<float*>(workspace);
    Job job{v, p, x, dy, dw_kcrs, tiles, tiles + tile_floats(v, p)};
    parallel_parts(size_t(v.groups * p.shares.count()), threads, sum_part, &job);
}

}  // namespace

const GradientAlgorithm kPixelSums = {"pixels", supports, workspace_bytes, weights};

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
