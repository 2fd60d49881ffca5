// Fourier transforms of real tiles, a vector of channels at a time: every lane is an image of its own, so that no lanes
// are exchanged. Cooley & Tukey 1965; two real transforms in one complex one as in Press et al., Numerical Recipes,
// section 12.3.
//
// A T x T tile has T * T / 2 + 2 points: of columns 1 to T / 2 - 1 all T, of columns 0 and T / 2, which are transforms
// of real numbers, those of rows 0 to T / 2. A point is a vector of real parts and one of imaginary parts.
#pragma once

#include "lanes.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

constexpr int points_of(int side) { return side * side / 2 + 2; }
// Floats of a point's two vectors.
constexpr int kPoint = 2 * kLanes;

// cos(2 pi k / 32) for k = 0 to 8.
constexpr float kCosines[] = {1.0f,         0.980785280f, 0.923879533f, 0.831469612f, 0.707106781f,
                              0.555570233f, 0.382683432f, 0.195090322f, 0.0f};

constexpr float cosine(int k) { return k <= 8 ? kCosines[k] : -kCosines[16 - k]; }  // k up to 16
constexpr float sine(int k) { return k <= 8 ? kCosines[8 - k] : kCosines[k - 8]; }  // k up to 16

// re + i im becomes its transform, sum over n of z[n] exp(-2 pi i n k / N); N is 2 to 32. With re and im exchanged it
// is N times the inverse transform.
template <int N>
inline void transform(F (&re)[N], F (&im)[N]) {
    if constexpr (N == 2) {
        const F r = re[0] - re[1], i = im[0] - im[1];
        re[0] += re[1];
        im[0] += im[1];
        re[1] = r;
        im[1] = i;
    } else {
        constexpr int kHalf = N / 2;
        F even_re[kHalf], even_im[kHalf], odd_re[kHalf], odd_im[kHalf];
#pragma GCC unroll 16
        for (int k = 0; k < kHalf; ++k) {
            even_re[k] = re[2 * k];
            even_im[k] = im[2 * k];
            odd_re[k] = re[2 * k + 1];
            odd_im[k] = im[2 * k + 1];
        }
        transform<kHalf>(even_re, even_im);
        transform<kHalf>(odd_re, odd_im);
#pragma GCC unroll 16
        for (int k = 0; k < kHalf; ++k) {
            F r = odd_re[k], i = odd_im[k];
            if (2 * k == kHalf) {
                r = odd_im[k];
                i = -odd_re[k];
            } else if (k > 0) {
                const float c = cosine(k * 32 / N), s = sine(k * 32 / N);
                r = c * odd_re[k] + s * odd_im[k];
                i = c * odd_im[k] - s * odd_re[k];
            }
            re[k] = even_re[k] + r;
            im[k] = even_im[k] + i;
            re[k + kHalf] = even_re[k] - r;
            im[k + kHalf] = even_im[k] - i;
        }
    }
}

// Scratch memory of one transform: rows of T / 2 + 1 points.
constexpr long scratch_floats(int side) { return long(side) * (side / 2 + 1) * kPoint; }

inline void store_point(float* to, F re, F im) {
    store(to, re);
    store(to + kLanes, im);
}

// The spectra of two sequences of T real numbers, `re` and `im` before they were transformed as one, times 2 * half: T
// / 2
// + 1 points each, `step` floats apart.
template <int T>
inline void store_spectra(const F (&re)[T], const F (&im)[T], float half, float* first, float* second, long step) {
#pragma GCC unroll 32
    for (int i = 0; i <= T / 2; ++i, first += step, second += step) {
        const int back = (T - i) % T;
        store_point(first, half * (re[i] + re[back]), half * (im[i] - im[back]));
        store_point(second, half * (im[i] + im[back]), half * (re[back] - re[i]));
    }
}

// Two such spectra as the one of the first sequence plus i times the second.
template <int T>
inline void load_spectra(const float* first, const float* second, long step, F (&re)[T], F (&im)[T]) {
#pragma GCC unroll 32
    for (int i = 0; i <= T / 2; ++i, first += step, second += step) {
        const F a_re = load(first), a_im = load(first + kLanes), b_re = load(second), b_im = load(second + kLanes);
        re[i] = a_re - b_im;
        im[i] = a_im + b_re;
        if (i > 0 && i < T / 2) {
            re[T - i] = a_re + b_im;
            im[T - i] = b_re - a_im;
        }
    }
}

// Transforms rows `row` and `row` + 1 of the tile: twice their spectra to the scratch memory. read(row, column) is the
// vector there.
template <int T, class Read>
inline void forward_rows(const Read& read, int row, float* scratch) {
    constexpr int kRow = (T / 2 + 1) * kPoint;
    F re[T], im[T];
#pragma GCC unroll 32
    for (int j = 0; j < T; ++j) {
        re[j] = read(row, j);
        im[j] = read(row + 1, j);
    }
    transform<T>(re, im);
    store_spectra<T>(re, im, 1.0f, scratch + row * kRow, scratch + (row + 1) * kRow, kPoint);
}

// Transforms column `column` of the scratch memory, of complex numbers, into its points.
template <int T>
inline void forward_column(const float* scratch, int column, float* to, long step) {
    constexpr int kRow = (T / 2 + 1) * kPoint;
    F re[T], im[T];
#pragma GCC unroll 32
    for (int i = 0; i < T; ++i) {
        re[i] = load(scratch + i * kRow + column * kPoint);
        im[i] = load(scratch + i * kRow + column * kPoint + kLanes);
    }
    transform<T>(re, im);
    to += long(column - 1) * T * step;
#pragma GCC unroll 32
    for (int i = 0; i < T; ++i, to += step) store_point(to, re[i], im[i]);
}

// Columns 0 and T / 2, of real numbers, together.
template <int T>
inline void forward_real_columns(const float* scratch, float* to, long step) {
    constexpr int kRow = (T / 2 + 1) * kPoint;
    F re[T], im[T];
#pragma GCC unroll 32
    for (int i = 0; i < T; ++i) {
        re[i] = load(scratch + i * kRow);
        im[i] = load(scratch + i * kRow + T / 2 * kPoint);
    }
    transform<T>(re, im);
    float* const first = to + long(T / 2 - 1) * T * step;
    store_spectra<T>(re, im, 0.5f, first, first + long(T / 2 + 1) * step, step);
}

// Twice the transform of a tile: point p to to[p * step]. `rows`: only the first so many rows (an even number) are not
// zero.
template <int T, class Read>
inline void forward_fourier(const Read& read, int rows, float* scratch, float* to, long step) {
    constexpr long kRow = (T / 2 + 1) * kPoint;
    for (int row = 0; row < rows; row += 2) forward_rows<T>(read, row, scratch);
    for (long i = rows * kRow; i < T * kRow; i += kLanes) store(scratch + i, F{});
    for (int column = 1; column < T / 2; ++column) forward_column<T>(scratch, column, to, step);
    forward_real_columns<T>(scratch, to, step);
}

// T times the inverse transform of the columns, point p at from[p * step].
template <int T>
inline void inverse_column(const float* from, long step, int column, float* scratch) {
    constexpr int kRow = (T / 2 + 1) * kPoint;
    F re[T], im[T];
    from += long(column - 1) * T * step;
#pragma GCC unroll 32
    for (int i = 0; i < T; ++i, from += step) {
        re[i] = load(from);
        im[i] = load(from + kLanes);
    }
    transform<T>(im, re);
#pragma GCC unroll 32
    for (int i = 0; i < T; ++i) store_point(scratch + i * kRow + column * kPoint, re[i], im[i]);
}

template <int T>
inline void inverse_real_columns(const float* from, long step, float* scratch) {
    constexpr int kRow = (T / 2 + 1) * kPoint;
    F re[T], im[T];
    const float* const first = from + long(T / 2 - 1) * T * step;
    load_spectra<T>(first, first + long(T / 2 + 1) * step, step, re, im);
    transform<T>(im, re);
#pragma GCC unroll 32
    for (int i = 0; i < T; ++i) {
        store_point(scratch + i * kRow, re[i], F{});
        store_point(scratch + i * kRow + T / 2 * kPoint, im[i], F{});
    }
}

// T times T the inverse transform, of the first `rows` rows: write(row, column, vector) for all their columns.
template <int T, class Write>
inline void inverse_fourier(const float* from, long step, int rows, float* scratch, const Write& write) {
    constexpr int kRow = (T / 2 + 1) * kPoint;
    for (int column = 1; column < T / 2; ++column) inverse_column<T>(from, step, column, scratch);
    inverse_real_columns<T>(from, step, scratch);
    for (int row = 0; row < rows; row += 2) {
        F re[T], im[T];
        load_spectra<T>(scratch + row * kRow, scratch + (row + 1) * kRow, kPoint, re, im);
        transform<T>(im, re);
#pragma GCC unroll 32
        for (int j = 0; j < T; ++j) {
            write(row, j, re[j]);
            write(row + 1, j, im[j]);
        }
    }
}

}  // namespace
}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
