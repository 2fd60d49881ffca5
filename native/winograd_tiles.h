// The two-dimensional transforms of one tile of a Winograd convolution, a vector of channels at a time.
#pragma once

#include "finish.h"
#include "gemm.h"
#include "windows.h"
#include "winograd_transforms.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

// One tile: MH x MW outputs from AH x AW inputs.
struct Tile {
    const float* image;
    int top, left;      // of the window, in the image
    long pixel;         // of the first output
    int rows, columns;  // of outputs that exist
};

// Where the points of a transformed tile go: channel c of point t to to[t * point_step + c / kDepth * block_step +
// c % kDepth].
struct PackedPoints {
    float* to;
    long point_step, block_step;
};

template <int AH, int AW>
inline void forward_vector(const Convolution& v, const Tile& tile, int channel, float* to, long step) {
    const int count = v.c - channel;
    const bool inside = tile.top >= 0 && tile.left >= 0 && tile.top + AH <= v.h && tile.left + AW <= v.w;
    F half[AH][AW];
#pragma GCC unroll 8
    for (int j = 0; j < AW; ++j) {
        F d[AH], o[AH];
        const float* from = tile.image + (long(tile.top) * v.w + tile.left + j) * v.x_pitch + channel;
        if (inside && count >= kLanes) {
#pragma GCC unroll 8
            for (int i = 0; i < AH; ++i) d[i] = load(from + long(i) * v.w * v.x_pitch);
        } else {
            const bool column = tile.left + j >= 0 && tile.left + j < v.w;
#pragma GCC unroll 8
            for (int i = 0; i < AH; ++i) {
                const float* at = from + long(i) * v.w * v.x_pitch;
                const bool exists = column && tile.top + i >= 0 && tile.top + i < v.h;
                d[i] = !exists ? all(0.0f) : count >= kLanes ? load(at) : load_part(at, count);
            }
        }
        forward<AH>(d, o);
#pragma GCC unroll 8
        for (int i = 0; i < AH; ++i) half[i][j] = o[i];
    }
#pragma GCC unroll 8
    for (int i = 0; i < AH; ++i) {
        F o[AW];
        forward<AW>(half[i], o);
#pragma GCC unroll 8
        for (int j = 0; j < AW; ++j) store(to + (i * AW + j) * step, o[j]);
    }
}

// Transforms channels `begin` to `end` of a tile's window; channel c goes where `first` + c lies among the points.
template <int AH, int AW>
void forward_tile(const Convolution& v, const Tile& tile, int begin, int end, int first, const PackedPoints& points) {
    for (int channel = begin; channel < end; channel += kLanes) {
        const int to = first + channel;
        forward_vector<AH, AW>(v, tile, channel, points.to + to / kDepth * points.block_step + to % kDepth,
                               points.point_step);
    }
}

// Transforms the rows of one vector of a kernel whose columns are: point t to to[t * step].
template <int AW, int AH, int S>
inline void kernel_rows(const F (&half)[AH][S], float* to, long step) {
#pragma GCC unroll 8
    for (int i = 0; i < AH; ++i) {
        F o[AW];
        kernel<AW, S>(half[i], o);
#pragma GCC unroll 8
        for (int j = 0; j < AW; ++j) store(to + (i * AW + j) * step, o[j]);
    }
}

// Transforms one vector of columns: tap t at from[t * from_step], point t to to[t * to_step].
template <int AH, int R, int AW, int S>
inline void kernel_vector(const float* from, long from_step, float* to, long to_step) {
    F half[AH][S];
#pragma GCC unroll 8
    for (int s = 0; s < S; ++s) {
        F g[R], o[AH];
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) g[r] = load(from + (r * S + s) * from_step);
        kernel<AH, R>(g, o);
#pragma GCC unroll 8
        for (int i = 0; i < AH; ++i) half[i][s] = o[i];
    }
    kernel_rows<AW>(half, to, to_step);
}

// Weights of `channels` channels and one panel: from[channel][tap][column] to to[point][channel][column].
template <int AH, int R, int AW, int S>
void kernel_panel(const float* from, int channels, int width, float* to, long point_step) {
    for (int channel = 0; channel < channels; ++channel, from += R * S * width, to += width)
        for (int column = 0; column < width; column += kLanes)
            kernel_vector<AH, R, AW, S>(from + column, width, to + column, point_step);
}

// Transforms the columns of one vector of sums back, point t at from[t * step].
template <int AH, int MH, int AW>
inline void inverse_columns(const float* from, long step, F (&half)[MH][AW]) {
#pragma GCC unroll 8
    for (int j = 0; j < AW; ++j) {
        F t[AH], o[MH];
#pragma GCC unroll 8
        for (int i = 0; i < AH; ++i) t[i] = load(from + (i * AW + j) * step);
        inverse<AH, MH>(t, o);
#pragma GCC unroll 8
        for (int i = 0; i < MH; ++i) half[i][j] = o[i];
    }
}

// Transforms one vector of a tile's sums back and stores the outputs that exist.
template <int AH, int MH, int AW, int MW>
inline void inverse_vector(const float* from, long step, const Convolution& v, const Tile& tile, int channel,
                           const Epilogue& epilogue, float* y) {
    F half[MH][AW];
    inverse_columns<AH>(from, step, half);
    for (int i = 0; i < MH && i < tile.rows; ++i) {
        F o[MW];
        inverse<AW, MW>(half[i], o);
#pragma GCC unroll 8
        for (int j = 0; j < MW; ++j)
            if (j < tile.columns)
                finish(o[j], epilogue, y, v.y_pitch, tile.pixel + long(i) * v.out_w + j, channel, v.k - channel);
    }
}

template <int AH, int MH, int AW, int MW>
void inverse_tile(const float* from, long step, const Convolution& v, const Tile& tile, int channel, int vectors,
                  const Epilogue& epilogue, float* y) {
    for (int vector = 0; vector < vectors; ++vector)
        inverse_vector<AH, MH, AW, MW>(from + vector * kLanes, step, v, tile, channel + vector * kLanes, epilogue, y);
}

}  // namespace
}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
