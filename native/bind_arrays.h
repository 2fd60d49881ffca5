// Arrays at the border, and the checks of their sizes that several files make.
#pragma once

#include <nanobind/ndarray.h>

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "convolution.h"

namespace convsmith {

template <class T>
using Array = nanobind::ndarray<T, nanobind::ndim<1>, nanobind::c_contig, nanobind::device::cpu>;

inline void require(bool fits, const char* what) {
    if (!fits) throw std::invalid_argument(std::string(what) + " is too short, out of range or not aligned");
}

// Whether an array has room for `bytes` bytes from a multiple of kAlignment on.
template <class T>
bool holds(const Array<T>& array, size_t bytes) {
    const bool aligned = reinterpret_cast<uintptr_t>(array.data()) % kAlignment == 0;
    return bytes == 0 || (array.shape(0) * sizeof(T) >= bytes && aligned);
}

// Elements from the first to beyond the last channel of an image of `pixels` pixels.
inline size_t span(size_t pixels, int pitch, int channels) {
    return pixels ? (pixels - 1) * size_t(pitch) + size_t(channels) : 0;
}

// The names of a table of algorithms, in its order.
template <class Table>
std::vector<std::string> names_of(const Table& table) {
    std::vector<std::string> names;
    for (int i = 0; i < table.count; ++i) names.emplace_back(table.entries[i]->name);
    return names;
}

inline size_t input_pixels(const Convolution& v) { return size_t(v.n) * size_t(v.h) * size_t(v.w); }
inline size_t output_pixels(const Convolution& v) { return size_t(v.n) * size_t(v.out_h) * size_t(v.out_w); }
inline size_t weight_count(const Convolution& v) {
    return size_t(v.k) * size_t(v.c / v.groups) * size_t(v.r) * size_t(v.s);
}

// Whether there is no residual, or it has the output's pixels `pitch` elements apart.
template <class Residual>
bool fits_output(const Residual& residual, int pitch, const Convolution& v) {
    return !residual || (pitch >= v.k && residual->shape(0) >= span(output_pixels(v), pitch, v.k));
}

}  // namespace convsmith
