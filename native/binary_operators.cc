// What packed signs go through between convolutions: pooling, and the way back to numbers. Compiled once per
// instruction set.
#include "binary_levels.h"
#include "pooling.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {

// The largest sign of a window is -1 only where all are: the words are anded; the smallest where any is: they are ored.
void pool_signs(const SignPooling& p, const uint64_t* x, const uint64_t* smallest, uint64_t* y, long first, long last) {
    const long words = p.windows.c;
    pool_windows(p.windows, x, y, first, last,
                 [&](const uint64_t* window, const Taps& rows, const Taps& columns, uint64_t* to) {
                     for (long word = 0; word < words; ++word) {
                         uint64_t all = ~uint64_t(0), any = 0;
                         for (int r = rows.first; r < rows.last; ++r)
                             for (int s = columns.first; s < columns.last; ++s) {
                                 const uint64_t bits =
                                     window[(long(r) * p.windows.dilation_h * p.windows.w + s * p.windows.dilation_w) *
                                                p.windows.x_pitch +
                                            word];
                                 all &= bits;
                                 any |= bits;
                             }
                         to[word] = (all & ~smallest[word] & any) | (any & smallest[word]);
                     }
                 });
}

void unpack_signs(const SignRows& rows, const uint64_t* x, float* y, long first, long last) {
    const long words = (rows.channels + 63) / 64;
    for (long row = first; row < last; ++row) {
        const uint64_t* const from = x + row * words;
        float* const to = y + row * rows.pitch;
        for (long c = 0; c < rows.channels; ++c) to[c] = from[c / 64] >> (c % 64) & 1 ? -1.0f : 1.0f;
    }
}

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
