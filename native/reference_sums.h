// The sum of one window as the plain references have it, for every type of element: one product after the other.
#pragma once

#include "convolution.h"

namespace convsmith {

// `product` makes a Sum of an element of the image and a weight.
template <class Sum, class X, class W, class Product>
Sum sum_of_window(const Convolution& v, const X* x, const W* w_kcrs, long n, int row, int column, int k,
                  const Product& product) {
    const int channels = v.c / v.groups, group = k / (v.k / v.groups);
    Sum sum = 0;
    for (int r = 0; r < v.r; ++r)
        for (int s = 0; s < v.s; ++s) {
            const int i = row * v.stride_h - v.pad_top + r * v.dilation_h;
            const int j = column * v.stride_w - v.pad_left + s * v.dilation_w;
            if (i < 0 || i >= v.h || j < 0 || j >= v.w) continue;
            const X* const from = x + ((n * v.h + i) * v.w + j) * v.x_pitch + group * channels;
            const W* const weights = w_kcrs + (long(k) * channels * v.r + r) * v.s + s;
            for (int c = 0; c < channels; ++c) sum += product(from[c], weights[long(c) * v.r * v.s]);
        }
    return sum;
}

}  // namespace convsmith
