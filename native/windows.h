// The windows of output pixels, for kernels that gather them or read the image where it lies.
#pragma once

#include "convolution.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

// Whether neighbouring outputs see neighbouring pixels of all channels, as tiles that overlap need it.
inline bool is_dense(const Convolution& v) {
    return v.stride_h == 1 && v.stride_w == 1 && v.dilation_h == 1 && v.dilation_w == 1 && v.groups == 1;
}

// The matrix product of one group: `rows` output pixels, `columns` output channels, `depth` products a sum.
struct WindowProduct {
    long rows, depth;
    int columns, channels;

    explicit WindowProduct(const Convolution& v)
        : rows(long(v.n) * v.out_h * v.out_w),
          depth(long(v.r) * v.s * (v.c / v.groups)),
          columns(v.k / v.groups),
          channels(v.c / v.groups) {}
};

// The window of one output pixel in one group of channels of an image whose pixels lie `pitch` elements apart; `next`
// goes on to the pixel after it.
template <class T>
struct Window {
    const Convolution& v;
    const T* image;
    long pitch;
    int row, column, top, left;

    Window(const Convolution& shape, const T* x, long pixel_pitch, long pixel, long first_channel)
        : v(shape), pitch(pixel_pitch) {
        const long area = long(v.out_h) * v.out_w, n = pixel / area;
        image = x + n * v.h * v.w * pitch + first_channel;
        row = int(pixel % area / v.out_w);
        column = int(pixel % v.out_w);
        place();
    }

    void next() {
        if (++column == v.out_w) {
            column = 0;
            if (++row == v.out_h) {
                row = 0;
                image += long(v.h) * v.w * pitch;
            }
        }
        place();
    }

    void place() {
        top = row * v.stride_h - v.pad_top;
        left = column * v.stride_w - v.pad_left;
    }

    // Null where the tap lies in the padding.
    const T* tap(int r, int s) const {
        const int down = top + r * v.dilation_h, right = left + s * v.dilation_w;
        if (down < 0 || down >= v.h || right < 0 || right >= v.w) return nullptr;
        return image + (long(down) * v.w + right) * pitch;
    }

    // Whether all taps of a kernel row, or of all, lie in the image.
    bool holds_row(int r) const {
        const int down = top + r * v.dilation_h;
        return down >= 0 && down < v.h && left >= 0 && left + (v.s - 1) * v.dilation_w < v.w;
    }
    bool holds_all() const { return holds_row(0) && holds_row(v.r - 1); }
};

// The output columns whose windows lie within the image's width.
struct Inside {
    int begin, end;

    explicit Inside(const Convolution& v) {
        const int last = v.w - 1 - (v.s - 1) * v.dilation_w + v.pad_left;
        begin = (v.pad_left + v.stride_w - 1) / v.stride_w;
        end = last < 0 ? 0 : last / v.stride_w + 1;
        if (end > v.out_w) end = v.out_w;
        if (begin > end) begin = end;
    }
};

}  // namespace
}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
