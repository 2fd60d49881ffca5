// A box of a picture to another size, mirrored on demand, as bytes or as the normalised numbers that a network reads.
//
// The filter is Pillow's bilinear one bit for bit: columns first, then rows, weights of 22 bits, each sum rounded to 8
// bits.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace convsmith {

constexpr int kWeightBits = 22;
constexpr int kSlack = 64;  // bytes that a kernel may write beyond a row of `narrow` or `line`

constexpr int kDigits = 4;  // of a weight, to the base 64, signed; the last is not cut

// For each of `size` results: the first source element, how many, and their weights (`taps` apart).
//
// For each four results: the furthest first element (`reach`) and how many fours of taps they need (`fours`). `digits`:
// the digits of the weights, least first, [taps / 4][kDigits][size rounded up to fours][4 taps].
struct ResampleAxis {
    int size, taps;
    const int32_t* first;
    const int32_t* count;
    const int32_t* weights;
    const int32_t* reach;
    const int32_t* fours;
    const int8_t* digits;
};

enum class PictureLayout { bytes_nhwc, floats_nchw, floats_nhwc };

// One picture; `pixels` is the first of the box. 1 or 3 channels, each row contiguous.
struct Resample {
    const uint8_t* pixels;
    ptrdiff_t row_bytes;
    int height, width, channels;
    ResampleAxis columns, rows;
    uint8_t* narrow;  // height x (columns.size * channels + kSlack)
    uint8_t* line;    // columns.size * channels + kSlack
    PictureLayout layout;
    void* out;
    const float* scale;  // of each channel: pixel * scale + shift
    const float* shift;
};

using ResamplePicture = void (*)(const Resample&);

void resample_reference(const Resample& task);

}  // namespace convsmith
