// Windows of float32 images gathered into lines, for products whose channels are no whole vectors.
#pragma once

#include "lanes.h"
#include "windows.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

// Copies `count` floats; may write up to kLanes - 1 zeros after them.
inline void copy_floats(float* to, const float* from, long count) {
    for (; count >= kLanes; count -= kLanes, to += kLanes, from += kLanes) store(to, load(from));
    if (count > 0) store(to, load_part(from, int(count)));
}

// May write up to kLanes - 1 zeros too many.
inline void clear_floats(float* to, long count) {
    for (long i = 0; i < count; i += kLanes) store(to + i, F{});
}

// Gathers a window that lies within the image, rows of adjacent floats.
inline void gather_inside(const Convolution& v, const Window<float>& window, float* line) {
    const long count = long(v.s) * v.x_pitch, rest = count % kLanes, step = long(v.dilation_h) * v.w * v.x_pitch;
    const float* from = window.image + (long(window.top) * v.w + window.left) * v.x_pitch;
    for (int r = 0; r < v.r; ++r, from += step, line += count) {
        for (long i = 0; i < count - rest; i += kLanes) store(line + i, load(from + i));
        if (rest) store(line + count - rest, load_part(from + count - rest, int(rest)));
    }
}

// Gathers any window into the line.
inline void gather(const Convolution& v, const Window<float>& window, int channels, float* line) {
    const bool whole_rows = v.dilation_w == 1 && v.x_pitch == channels;
    if (whole_rows && window.holds_all()) return gather_inside(v, window, line);
    for (int r = 0; r < v.r; ++r) {
        if (whole_rows && window.holds_row(r)) {
            copy_floats(line, window.tap(r, 0), long(v.s) * channels);
            line += long(v.s) * channels;
            continue;
        }
        for (int s = 0; s < v.s; ++s, line += channels) {
            const float* from = window.tap(r, s);
            if (from)
                copy_floats(line, from, channels);
            else
                clear_floats(line, channels);
        }
    }
}

}  // namespace
}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
