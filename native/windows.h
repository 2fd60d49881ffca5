// The window of one output pixel in one group of channels, for kernels that pack windows.
#pragma once

#include "convolution.h"
#include "lanes.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

template <class T>
struct Window {
    const T* image;
    int top, left;

    Window(const Convolution& v, const T* x, long pixel, int first_channel) {
        const long area = long(v.out_h) * v.out_w, n = pixel / area;
        const int row = int(pixel % area / v.out_w), column = int(pixel % v.out_w);
        image = x + n * v.h * v.w * v.x_pitch + first_channel;
        top = row * v.stride_h - v.pad_top;
        left = column * v.stride_w - v.pad_left;
    }

    // Null where the tap lies in the padding.
    const T* tap(const Convolution& v, int r, int s) const {
        const int row = top + r * v.dilation_h, column = left + s * v.dilation_w;
        if (row < 0 || row >= v.h || column < 0 || column >= v.w) return nullptr;
        return image + (long(row) * v.w + column) * v.x_pitch;
    }

    bool holds_row(const Convolution& v, int r) const {
        const int row = top + r * v.dilation_h;
        return row >= 0 && row < v.h && left >= 0 && left + v.s <= v.w;
    }
};

}  // namespace
}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
