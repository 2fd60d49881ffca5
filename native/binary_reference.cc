// The specification of sums of products of signs: every sign is unpacked, every product made, one after the other.
#include "binary_reference.h"

namespace convsmith {
namespace {

int sign_at(const uint64_t* words, int planes, long i) {
    const uint64_t* const word = words + i / 64 * planes;
    if (planes == 2 && !(word[1] >> (i % 64) & 1)) return 0;
    return word[0] >> (i % 64) & 1 ? -1 : 1;
}

bool pack_signs(const float* x, long rows, int channels, long pitch, uint64_t* packed) {
    bool valid = true;
    for (long row = 0; row < rows; ++row)
        for (int i = 0; i < channels; ++i) {
            const float v = x[row * pitch + i];
            if (i % 64 == 0) *packed++ = 0;
            packed[-1] |= uint64_t(v < 0) << (i % 64);
            valid &= v == v;
        }
    return valid;
}

size_t prepared_words(const BinaryProduct& p) {
    return size_t(p.columns) * size_t(p.words) * size_t(right_planes(p.planes));
}

void prepare(const BinaryProduct& p, const uint64_t* b, uint64_t* prepared) {
    for (size_t i = 0; i < prepared_words(p); ++i) prepared[i] = b[i];
}

// The clear bits beyond the last sign count as products of +1 with +1 where no operand says "not zero": `base` is then
// the true number of signs, and the excess goes.
int32_t excess(const BinaryProduct& p, const uint64_t* b, int32_t base) {
    if (p.planes == Planes::ternary) return 0;
    int32_t counted = 0;
    for (long i = 0; i < p.words * 64; ++i) counted += sign_at(b, right_planes(p.planes), i) != 0;
    return counted - base;
}

void multiply(const BinaryProduct& p, const uint64_t* a, const uint64_t* prepared, const int32_t* base, int32_t* c,
              int) {
    const int left = left_planes(p.planes), right = right_planes(p.planes);
    for (long row = 0; row < p.rows; ++row)
        for (long column = 0; column < p.columns; ++column) {
            const uint64_t* const b = prepared + column * p.words * right;
            int32_t sum = 0;
            for (long i = 0; i < p.words * 64; ++i)
                sum += sign_at(a + row * p.words * left, left, i) * sign_at(b, right, i);
            c[row * p.columns + column] = sum - excess(p, b, base[column]);
        }
}

size_t workspace_bytes(const BinaryConvolution&, int) { return 0; }

// One sum; taps outside of the image are left out or see +1.
int32_t window_sum(const BinaryConvolution& v, const uint64_t* x, const uint64_t* b, long n, int row, int column,
                   int group) {
    const Convolution& s = v.sizes;
    const int left = left_planes(v.planes), right = right_planes(v.planes), channels = s.c / s.groups;
    const long words = (channels + 63) / 64;
    int32_t sum = 0;
    for (int r = 0; r < s.r; ++r)
        for (int t = 0; t < s.s; ++t) {
            const int y = row * s.stride_h - s.pad_top + r * s.dilation_h;
            const int z = column * s.stride_w - s.pad_left + t * s.dilation_w;
            const bool inside = y >= 0 && y < s.h && z >= 0 && z < s.w;
            if (!inside && v.zero_border) continue;
            const uint64_t* const pixel = x + (((n * s.h + y) * s.w + z) * s.groups + group) * words * left;
            const uint64_t* const weights = b + (long(r) * s.s + t) * words * right;
            for (int c = 0; c < channels; ++c)
                sum += (inside ? sign_at(pixel, left, c) : 1) * sign_at(weights, right, c);
        }
    return sum;
}

void store(const BinaryConvolution& v, const BinaryEpilogue& e, long pixel, int k, int32_t sum, void* y) {
    const long at = pixel * v.sizes.k + k;
    if (e.output == BinaryOutput::sums) {
        static_cast<int32_t*>(y)[at] = sum;
    } else if (e.output == BinaryOutput::scaled) {
        static_cast<float*>(y)[at] = e.scale[k] * float(sum) + e.shift[k];
    } else {
        uint64_t* const word = static_cast<uint64_t*>(y) + pixel * ((v.sizes.k + 63) / 64) + k / 64;
        if (k % 64 == 0) *word = 0;
        *word |= uint64_t(e.direction[k] * sum < e.threshold[k]) << (k % 64);
    }
}

void convolve(const BinaryConvolution& v, const uint64_t* x, const uint64_t* prepared, void* y,
              const BinaryEpilogue& epilogue, void*, int) {
    const Convolution& s = v.sizes;
    const int columns = s.k / s.groups;
    const long window = long(s.r) * s.s * ((s.c / s.groups + 63) / 64) * right_planes(v.planes);
    long pixel = 0;
    for (long n = 0; n < s.n; ++n)
        for (int row = 0; row < s.out_h; ++row)
            for (int column = 0; column < s.out_w; ++column, ++pixel)
                for (int k = 0; k < s.k; ++k)
                    store(v, epilogue, pixel, k, window_sum(v, x, prepared + k * window, n, row, column, k / columns),
                          y);
}

void pool(const SignPooling& p, const uint64_t* x, const uint64_t* smallest, uint64_t* y, long first, long last) {
    const Pooling& w = p.windows;
    for (long item = first; item < last; ++item)
        for (int column = 0; column < w.out_w; ++column)
            for (int word = 0; word < w.c; ++word) {
                uint64_t all = ~uint64_t(0), any = 0;
                for (int r = 0; r < w.r; ++r)
                    for (int s = 0; s < w.s; ++s) {
                        const long row = item % w.out_h * w.stride_h - w.pad_top + long(r) * w.dilation_h;
                        const long at = long(column) * w.stride_w - w.pad_left + long(s) * w.dilation_w;
                        if (row < 0 || row >= w.h || at < 0 || at >= w.w) continue;
                        const uint64_t bits = x[((item / w.out_h * w.h + row) * w.w + at) * w.x_pitch + word];
                        all &= bits;
                        any |= bits;
                    }
                y[(item * w.out_w + column) * w.y_pitch + word] =
                    (any & smallest[word]) | (all & any & ~smallest[word]);
            }
}

void unpack(const SignRows& rows, const uint64_t* x, float* y, long first, long last) {
    for (long row = first; row < last; ++row)
        for (long c = 0; c < rows.channels; ++c)
            y[row * rows.pitch + c] = float(sign_at(x + row * ((rows.channels + 63) / 64), 1, int(c)));
}

}  // namespace

const BinaryTable kReferenceBinary = {pack_signs,      prepared_words, prepare, multiply,
                                      workspace_bytes, convolve,       pool,    unpack};

}  // namespace convsmith
