// The windows of pooling and their taps, for every type of element.
#pragma once

#include "operators.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

inline int ceil_divided(int a, int b) { return a <= 0 ? 0 : (a + b - 1) / b; }

// The taps of a window that starts at `start` which lie below `size` and not before 0, and how many an average counts.
struct Taps {
    int first, last, counted;

    Taps(int start, int taps, int dilation, int size, int before, int after, bool count_padding) {
        first = ceil_divided(-start, dilation);
        last = ceil_divided(size - start, dilation);
        last = last < taps ? last : taps;
        if (last < first) last = first;
        counted = last - first;
        if (count_padding) {
            const int low = ceil_divided(-before - start, dilation),
                      high = ceil_divided(size + after - start, dilation);
            counted = (high < taps ? high : taps) - low;
        }
    }
};

// Calls pool(window, rows, columns, to) for the output pixels of the items: where their windows begin, perhaps before
// the image, the taps that lie in it, and where the result goes.
template <class T, class Pool>
inline void pool_windows(const Pooling& p, const T* x, T* y, long first, long last, const Pool& pool) {
    for (long item = first; item < last; ++item) {
        const long n = item / p.out_h;
        const int top = int(item % p.out_h) * p.stride_h - p.pad_top;
        const Taps rows(top, p.r, p.dilation_h, p.h, p.pad_top, p.pad_bottom, p.count_padding);
        for (int column = 0; column < p.out_w; ++column) {
            const int left = column * p.stride_w - p.pad_left;
            const Taps columns(left, p.s, p.dilation_w, p.w, p.pad_left, p.pad_right, p.count_padding);
            const T* const window = x + ((n * p.h + top) * p.w + left) * p.x_pitch;
            pool(window, rows, columns, y + (item * p.out_w + column) * p.y_pitch);
        }
    }
}

}  // namespace
}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
