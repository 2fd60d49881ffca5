// The gradient of a convolution's weights as sums over pixels: for each tap, the outer products of image and output
// gradient. Takes every kernel, stride, dilation, padding and group. Compiled once per instruction set.
//
// Pixels come in chunks whose image and gradient are packed into the second-level cache, zeros around the image
// included; then all tiles of all taps are gone through. Every tile sums in the order of the pixels, so that the result
// does not depend on the threads. Where a group has fewer channels than a tile has rows, the taps of a kernel row count
// as more channels: a pixel's left factor is then the adjacent floats of that row of the window.
#include "gradient_levels.h"
#include "outer.h"
#include "parts.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

struct Plan {
    int channels, columns, panels;
    bool merged;                  // the taps of a kernel row are rows of a tile
    int rows;                     // of all tiles of a group: channels, times the taps of a kernel row where merged
    int wide, step;               // packed places of an image line, and from one output to the next
    int taps;                     // for which tiles of their own exist
    int line_taps;                // of them in a kernel row
    int images, lines, in_lines;  // of a chunk: some lines of one image, or all of several
    long left_image, left_tile, left_group, right_panel, right_group, line_floats;

    explicit Plan(const Convolution& v)
        : channels(v.c / v.groups), columns(v.k / v.groups), panels(panel_count(columns)) {
        merged = channels < kRows && v.s > 1 && v.dilation_w == 1 && v.groups == 1;
        rows = merged ? channels * v.s : channels;
        line_taps = merged ? 1 : v.s;
        taps = v.r * line_taps;
        step = merged ? 1 : v.stride_w;
        wide = merged ? v.out_w : (v.out_w - 1) * v.stride_w + (v.s - 1) * v.dilation_w + 1;
        // Packed pixels of a tile and a panel should stay in the first-level cache, all of them in the second.
        const long floats = long(v.groups) * (rows + columns), most = long(caches().second) / 8 / floats;
        const long pixels = most < kFewest ? kFewest : most;
        lines = int(pixels / v.out_w < 1 ? 1 : pixels / v.out_w < v.out_h ? pixels / v.out_w : v.out_h);
        images = lines < v.out_h ? 1 : int(pixels / (long(lines) * v.out_w));
        if (images < 1) images = 1;
        if (images > v.n) images = v.n;
        in_lines = (lines - 1) * v.stride_h + (v.r - 1) * v.dilation_h + 1;
        left_image = long(in_lines) * wide * kLeft;
        left_tile = images * left_image;
        left_group = row_tiles().count * left_tile;
        right_panel = long(images) * lines * v.out_w * kPanel;
        right_group = panels * right_panel;
        line_floats = merged ? round_up(long((v.out_w - 1) * v.stride_w + v.s) * channels + kLeft, kLanes) : 0;
    }

    static constexpr long kFewest = 200;

    RowTiles row_tiles() const { return RowTiles(rows); }
    int vectors(int panel) const { return panel_vectors(columns, panel); }
};

struct Job {
    const Convolution& shape;
    const Plan plan;
    const float* x;
    const float* dy;
    float* dw_kcrs;
    float* left;
    float* right;
    float* tiles;
    float* window_lines;  // one for each worker
    int image, line;      // where the chunk begins
    int images, lines;    // its size
    bool first;
};

// Copies a vector's worth of floats, zeros after the first `count`.
inline void copy_part(float* to, const float* from, int count) {
    store(to, count >= kLanes ? load(from) : count > 0 ? load_part(from, count) : all(0.0f));
}

// Packs one pixel of a line into all tiles of all groups; null: zeros.
void pack_pixel(const Job& job, const float* pixel, float* to) {
    const Plan& p = job.plan;
    const RowTiles tiles = p.row_tiles();
    for (int group = 0; group < job.shape.groups; ++group)
        for (int tile = 0; tile < tiles.count; ++tile) {
            float* const at = to + group * p.left_group + tile * p.left_tile;
            const int begin = group * p.channels + tiles.begin(tile);
            for (int lane = 0; lane < kLeft; lane += kLanes) {
                if (pixel)
                    copy_part(at + lane, pixel + begin + lane, job.shape.c - begin - lane);
                else
                    store(at + lane, all(0.0f));
            }
        }
}

// The image's line, zeros around it included, as adjacent floats; then the tiles of each output's row of taps.
void pack_merged_line(const Job& job, const float* line, float* adjacent, float* to) {
    const Convolution& v = job.shape;
    const Plan& p = job.plan;
    const int across = (v.out_w - 1) * v.stride_w + v.s;
    float* at = adjacent;
    for (int column = -v.pad_left; column < across - v.pad_left; ++column, at += p.channels)
        for (int c = 0; c < p.channels; ++c)
            at[c] = line && column >= 0 && column < v.w ? line[long(column) * v.x_pitch + c] : 0.0f;
    for (; at < adjacent + p.line_floats; ++at) *at = 0.0f;
    const RowTiles tiles = p.row_tiles();
    for (int tile = 0; tile < tiles.count; ++tile)
        for (int column = 0; column < v.out_w; ++column)
            for (int lane = 0; lane < kLeft; lane += kLanes)
                store(to + tile * p.left_tile + column * kLeft + lane,
                      load(adjacent + long(column) * v.stride_w * p.channels + tiles.begin(tile) + lane));
}

// Packs line `index` of the image's lines that the chunk needs.
void pack_left(const Job& job, int image, int index, int worker) {
    const Convolution& v = job.shape;
    const Plan& p = job.plan;
    const int i = job.line * v.stride_h - v.pad_top + index;
    const bool exists = i >= 0 && i < v.h;
    const float* const line = exists ? job.x + (long(job.image + image) * v.h + i) * v.w * v.x_pitch : nullptr;
    float* const to = job.left + image * p.left_image + long(index) * p.wide * kLeft;
    if (p.merged) return pack_merged_line(job, line, job.window_lines + worker * p.line_floats, to);
    for (int column = 0; column < p.wide; ++column) {
        const int j = column - v.pad_left;
        pack_pixel(job, line && j >= 0 && j < v.w ? line + long(j) * v.x_pitch : nullptr, to + long(column) * kLeft);
    }
}

// Packs a line of the output's gradient into all panels of all groups.
void pack_right(const Job& job, int image, int index) {
    const Convolution& v = job.shape;
    const Plan& p = job.plan;
    const float* pixel = job.dy + (long(job.image + image) * v.out_h + job.line + index) * v.out_w * v.y_pitch;
    const long place = (long(image) * job.lines + index) * v.out_w;
    for (int column = 0; column < v.out_w; ++column, pixel += v.y_pitch)
        for (int group = 0; group < v.groups; ++group)
            for (int panel = 0; panel < p.panels; ++panel) {
                const int width = p.vectors(panel) * kLanes, begin = panel * kPanel;
                float* const to = job.right + group * p.right_group + panel * p.right_panel + (place + column) * width;
                for (int lane = 0; lane < width; lane += kLanes)
                    copy_part(to + lane, pixel + group * p.columns + begin + lane, p.columns - begin - lane);
            }
}

void pack_part(void* context, size_t part, int worker) {
    const Job& job = *static_cast<const Job*>(context);
    const int in_lines = (job.lines - 1) * job.shape.stride_h + (job.shape.r - 1) * job.shape.dilation_h + 1;
    const int all_lines = in_lines + job.lines, image = int(part / all_lines), index = int(part % all_lines);
    if (index < in_lines)
        pack_left(job, image, index, worker);
    else
        pack_right(job, image, index - in_lines);
}

// A tile of one tap.
struct Unit {
    int group, tile, panel, tap;

    Unit(const Plan& p, long index, bool with_taps) {
        const int count = p.row_tiles().count;
        tap = with_taps ? int(index % p.taps) : 0;
        if (with_taps) index /= p.taps;
        tile = int(index % count);
        panel = int(index / count % p.panels);
        group = int(index / count / p.panels);
    }
    long number(const Plan& p) const {
        return ((long(group) * p.panels + panel) * p.row_tiles().count + tile) * p.taps + tap;
    }
};

void add_part(void* context, size_t part, int) {
    const Job& job = *static_cast<const Job*>(context);
    const Convolution& v = job.shape;
    const Plan& p = job.plan;
    const Unit unit(p, long(part), true);
    const RowTiles tiles = p.row_tiles();
    const int r = unit.tap / p.line_taps, s = unit.tap % p.line_taps, vectors = p.vectors(unit.panel);
    const AddOuter add = add_outer(tiles.begin(unit.tile + 1) - tiles.begin(unit.tile), vectors);
    const Depth depth{job.lines, v.out_w, long(p.step) * kLeft, long(v.stride_h) * p.wide * kLeft};
    const float* left = job.left + unit.group * p.left_group + unit.tile * p.left_tile +
                        (long(r) * v.dilation_h * p.wide + long(s) * v.dilation_w) * kLeft;
    const float* right = job.right + unit.group * p.right_group + unit.panel * p.right_panel;
    for (int image = 0; image < job.images; ++image) {
        add(left, right, depth, job.first && image == 0, job.tiles + long(part) * kOuterTile);
        left += p.left_image;
        right += long(job.lines) * v.out_w * vectors * kLanes;
    }
}

// Where the taps of a kernel row are rows, a row is a tap and a channel.
void write_merged(const Job& job, const Unit& unit, int outputs) {
    const Convolution& v = job.shape;
    const Plan& p = job.plan;
    const RowTiles tiles = p.row_tiles();
    const int begin = tiles.begin(unit.tile), rows = tiles.begin(unit.tile + 1) - begin;
    const int pitch = p.vectors(unit.panel) * kLanes;
    for (int r = 0; r < v.r; ++r)
        for (int row = 0; row < rows; ++row) {
            const int s = (begin + row) / p.channels, c = (begin + row) % p.channels;
            const float* from = job.tiles + (unit.number(p) + r) * kOuterTile + row * pitch;
            for (int j = 0; j < outputs && j < kPanel; ++j)
                job.dw_kcrs[((long(unit.panel * kPanel + j) * p.channels + c) * v.r + r) * v.s + s] = from[j];
        }
}

void write_part(void* context, size_t part, int) {
    const Job& job = *static_cast<const Job*>(context);
    const Plan& p = job.plan;
    const Unit unit(p, long(part), false);
    const RowTiles tiles = p.row_tiles();
    const int begin = tiles.begin(unit.tile), outputs = p.columns - unit.panel * kPanel;
    if (p.merged) return write_merged(job, unit, outputs);
    write_taps(job.tiles + unit.number(p) * kOuterTile, kOuterTile, p.taps, begin, tiles.begin(unit.tile + 1) - begin,
               p.channels, p.vectors(unit.panel), long(unit.group) * p.columns + unit.panel * kPanel, outputs,
               job.dw_kcrs);
}

bool supports(const Convolution&) { return true; }

long left_floats(const Convolution& v, const Plan& p) { return v.groups * p.left_group; }
long right_floats(const Convolution& v, const Plan& p) { return v.groups * p.right_group; }
long units(const Convolution& v, const Plan& p) { return long(v.groups) * p.panels * p.row_tiles().count; }

size_t workspace_bytes(const Convolution& v, int threads) {
    const Plan p(v);
    return size_t(left_floats(v, p) + right_floats(v, p) + units(v, p) * p.taps * kOuterTile +
                  threads * p.line_floats) *
           sizeof(float);
}

void weights(const Convolution& v, const float* x, const float* dy, float* dw_kcrs, void* workspace, int threads) {
    const Plan p(v);
    float* const left = static_cast<float*>(workspace);
    float* const right = left + left_floats(v, p);
    float* const tiles = right + right_floats(v, p);
    Job job{v, p, x, dy, dw_kcrs, left, right, tiles, tiles + units(v, p) * p.taps * kOuterTile, 0, 0, 0, 0, true};
    if (v.n == 0) memset(tiles, 0, size_t(units(v, p) * p.taps * kOuterTile) * sizeof(float));
    for (job.image = 0; job.image < v.n; job.image += p.images)
        for (job.line = 0; job.line < v.out_h; job.line += p.lines) {
            job.images = v.n - job.image < p.images ? v.n - job.image : p.images;
            job.lines = v.out_h - job.line < p.lines ? v.out_h - job.line : p.lines;
            const long in_lines = (job.lines - 1L) * v.stride_h + (v.r - 1L) * v.dilation_h + 1;
            parallel_parts(size_t(job.images * (in_lines + job.lines)), threads, pack_part, &job);
            parallel_parts(size_t(units(v, p) * p.taps), threads, add_part, &job);
            job.first = false;
        }
    parallel_parts(size_t(units(v, p)), threads, write_part, &job);
}

}  // namespace

const GradientAlgorithm kPixelSums = {"pixels", supports, workspace_bytes, weights};

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
