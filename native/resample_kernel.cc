// Resampling with vectors: four taps of a pixel at once along a row, a vector of neighbours down the columns.
#include "lanes.h"
#include "resample.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

constexpr int32_t kHalf = 1 << (kWeightBits - 1);
constexpr int kLines = 4;  // rows at once

inline uint8_t rounded(int32_t sum) {
    const int32_t value = sum >> kWeightBits;
    return uint8_t(value < 0 ? 0 : value > 255 ? 255 : value);
}

// One pixel from its taps, reading nothing beyond them.
template <int Channels>
inline void pixel(const uint8_t* from, int count, const int32_t* weights, uint8_t* to) {
    for (int c = 0; c < Channels; ++c) {
        int32_t sum = kHalf;
        for (int t = 0; t < count; ++t) sum += from[t * Channels + c] * weights[t];
        to[c] = rounded(sum);
    }
}

#if defined(__AVX2__)
// Three bytes a pixel to four lanes a pixel, the fourth zero.
inline __m128i spread() { return _mm_setr_epi8(0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1); }

// The sums of four lanes each as one pixel; writes a fourth byte.
inline void put(__m128i sums, uint8_t* to) {
    const __m128i shifted = _mm_srai_epi32(_mm_add_epi32(sums, _mm_set1_epi32(kHalf)), kWeightBits);
    const __m128i words = _mm_packs_epi32(shifted, shifted);
    const int32_t bytes = _mm_cvtsi128_si32(_mm_packus_epi16(words, words));
    memcpy(to, &bytes, 4);
}

#if defined(__AVX512F__)
inline __m128i four_taps(const uint8_t* from, const int32_t* weights) {
    const __m512i places = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    const __m128i bytes = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i*)from), spread());
    const __m512i w =
        _mm512_permutexvar_epi32(places, _mm512_castsi128_si512(_mm_loadu_si128((const __m128i*)weights)));
    const __m512i products = _mm512_mullo_epi32(_mm512_cvtepu8_epi32(bytes), w);
    const __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(products), _mm512_extracti64x4_epi64(products, 1));
    return _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}
#else
inline __m128i four_taps(const uint8_t* from, const int32_t* weights) {
    const __m256i low = _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1), high = _mm256_setr_epi32(2, 2, 2, 2, 3, 3, 3, 3);
    const __m128i bytes = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i*)from), spread());
    const __m256i w = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i*)weights));
    const __m256i a = _mm256_mullo_epi32(_mm256_cvtepu8_epi32(bytes), _mm256_permutevar8x32_epi32(w, low));
    const __m256i b =
        _mm256_mullo_epi32(_mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8)), _mm256_permutevar8x32_epi32(w, high));
    const __m256i sum = _mm256_add_epi32(a, b);
    return _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
}
#endif
#endif

#if defined(__AVX512BW__)
// The sum over the four bytes of each lane of pixels times weights, these given as digits.
#if defined(__AVX512VNNI__)
inline __m512i dot(__m512i bytes, const __m512i* digits) {
    const __m512i zero = _mm512_setzero_si512();
    const __m512i low = _mm512_add_epi32(_mm512_dpbusd_epi32(zero, bytes, digits[0]),
                                         _mm512_slli_epi32(_mm512_dpbusd_epi32(zero, bytes, digits[1]), 6));
    const __m512i top = _mm512_add_epi32(_mm512_dpbusd_epi32(zero, bytes, digits[2]),
                                         _mm512_slli_epi32(_mm512_dpbusd_epi32(zero, bytes, digits[3]), 6));
    return _mm512_add_epi32(low, _mm512_slli_epi32(top, 12));
}
#else
inline __m512i dot(__m512i bytes, const __m512i* digits) {
    const __m512i one = _mm512_set1_epi16(1), second = _mm512_set1_epi16(64), third = _mm512_set1_epi16(4096);
    __m512i products[kDigits];
    for (int k = 0; k < kDigits; ++k) products[k] = _mm512_maddubs_epi16(bytes, digits[k]);
    const __m512i low = _mm512_add_epi32(_mm512_madd_epi16(products[0], one), _mm512_madd_epi16(products[1], second));
    const __m512i top = _mm512_slli_epi32(_mm512_madd_epi16(products[3], third), 6);
    return _mm512_add_epi32(low, _mm512_add_epi32(_mm512_madd_epi16(products[2], third), top));
}
#endif
#endif

#if defined(__AVX512BW__)
// Four pixels of three bytes at once, one in each part of 16 bytes, and each weight as four digits, so that products of
// bytes do: a pair of them is at most 2 * 255 * 32. `Lines` rows, `apart` bytes from each other, share what the digits
// take to spread. Writes four bytes beyond, to lines of kSlack more bytes than pixels. Returns how many pixels are
// done.
template <int Lines>
inline int columns_by_four(const Resample& task, const uint8_t* row, ptrdiff_t apart, ptrdiff_t safe, uint8_t* to) {
    const ResampleAxis& axis = task.columns;
    const __m512i by_channel =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, -1, -1, -1, -1));
    const __m512i places = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    const __m128i packed = _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1);
    const ptrdiff_t plane = ptrdiff_t(axis.size + 3) / 4 * 16, narrow_bytes = 3 * ptrdiff_t(axis.size) + kSlack;
    int x = 0;
    for (; x + 4 <= axis.size; x += 4, to += 12) {
        const int fours = axis.fours[x / 4];
        if (3 * ptrdiff_t(axis.reach[x / 4]) + 12 * (fours - 1) + 16 > safe) {
            for (int i = 0; i < 4 * Lines; ++i)
                pixel<3>(row + i / 4 * apart + 3 * ptrdiff_t(axis.first[x + i % 4]), axis.count[x + i % 4],
                         axis.weights + ptrdiff_t(x + i % 4) * axis.taps, to + i / 4 * narrow_bytes + 3 * (i % 4));
            continue;
        }
        const int32_t* first = axis.first + x;
        __m512i sums[Lines];
        for (int line = 0; line < Lines; ++line) sums[line] = _mm512_set1_epi32(kHalf);
        for (int f = 0; f < fours; ++f) {
            const int8_t* from = axis.digits + kDigits * f * plane + 4 * x;
            __m512i digits[kDigits];
            for (int k = 0; k < kDigits; ++k)
                digits[k] = _mm512_permutexvar_epi32(
                    places, _mm512_castsi128_si512(_mm_loadu_si128((const __m128i*)(from + k * plane))));
            for (int line = 0; line < Lines; ++line) {
                const uint8_t* pixels = row + line * apart + 12 * f;
                __m512i bytes = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i*)(pixels + 3 * first[0])));
                bytes = _mm512_inserti32x4(bytes, _mm_loadu_si128((const __m128i*)(pixels + 3 * first[1])), 1);
                bytes = _mm512_inserti32x4(bytes, _mm_loadu_si128((const __m128i*)(pixels + 3 * first[2])), 2);
                bytes = _mm512_inserti32x4(bytes, _mm_loadu_si128((const __m128i*)(pixels + 3 * first[3])), 3);
                sums[line] = _mm512_add_epi32(sums[line], dot(_mm512_shuffle_epi8(bytes, by_channel), digits));
            }
        }
        for (int line = 0; line < Lines; ++line) {
            const __m128i found = _mm512_cvtusepi32_epi8(_mm512_srli_epi32(sums[line], kWeightBits));
            _mm_storeu_si128((__m128i*)(to + line * narrow_bytes), _mm_shuffle_epi8(found, packed));
        }
    }
    return x;
}
#endif

// `safe`: bytes of the row that may be read from `row` on.
template <int Channels>
inline void columns(const Resample& task, const uint8_t* row, [[maybe_unused]] ptrdiff_t safe, uint8_t* to) {
    const ResampleAxis& axis = task.columns;
    int x = 0;
#if defined(__AVX512BW__)
    if (Channels == 3) {
        x = columns_by_four<1>(task, row, 0, safe, to);
        to += 3 * ptrdiff_t(x);
    }
#endif
    for (; x < axis.size; ++x, to += Channels) {
        const int32_t* weights = axis.weights + ptrdiff_t(x) * axis.taps;
        const ptrdiff_t at = ptrdiff_t(axis.first[x]) * Channels;
#if defined(__AVX2__)
        // weights are kept in fours, the unused ones zero
        const int fours = (axis.count[x] + 3) / 4;
        if (Channels == 3 && at + 12 * (fours - 1) + 16 <= safe) {
            __m128i sums = four_taps(row + at, weights);
            for (int f = 1; f < fours; ++f) sums = _mm_add_epi32(sums, four_taps(row + at + 12 * f, weights + 4 * f));
            put(sums, to);
            continue;
        }
#endif
        pixel<Channels>(row + at, axis.count[x], weights, to);
    }
}

// One row of the result as bytes. Reads and writes up to kSlack bytes beyond the row.
inline void rows(const Resample& task, int y, uint8_t* to) {
    const int line = task.columns.size * task.channels;
    const ptrdiff_t narrow_bytes = line + kSlack;
    const uint8_t* from = task.narrow + task.rows.first[y] * narrow_bytes;
    const int32_t* weights = task.rows.weights + ptrdiff_t(y) * task.rows.taps;
    const int count = task.rows.count[y];
    int j = 0;
#if defined(__AVX512F__)
    for (; j < line; j += 16) {
        __m512i sum = _mm512_set1_epi32(kHalf);
        for (int t = 0; t < count; ++t) {
            const __m512i pixels = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)(from + t * narrow_bytes + j)));
            sum = _mm512_add_epi32(sum, _mm512_mullo_epi32(pixels, _mm512_set1_epi32(weights[t])));
        }
        _mm_storeu_si128((__m128i*)(to + j), _mm512_cvtusepi32_epi8(_mm512_srli_epi32(sum, kWeightBits)));
    }
#elif defined(__AVX2__)
    for (; j < line; j += 8) {
        __m256i sum = _mm256_set1_epi32(kHalf);
        for (int t = 0; t < count; ++t) {
            const __m256i pixels = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)(from + t * narrow_bytes + j)));
            sum = _mm256_add_epi32(sum, _mm256_mullo_epi32(pixels, _mm256_set1_epi32(weights[t])));
        }
        const __m256i shifted = _mm256_srli_epi32(sum, kWeightBits);
        const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(shifted), _mm256_extracti128_si256(shifted, 1));
        _mm_storel_epi64((__m128i*)(to + j), _mm_packus_epi16(words, words));
    }
#else
    for (; j < line; ++j) {
        int32_t sum = kHalf;
        for (int t = 0; t < count; ++t) sum += from[t * narrow_bytes + j] * weights[t];
        to[j] = rounded(sum);
    }
#endif
}

#if defined(__AVX2__)
// Sixteen pixels of three bytes to sixteen bytes of each channel.
inline void planes(const uint8_t* from, __m128i& red, __m128i& green, __m128i& blue) {
    const __m128i order = _mm_setr_epi8(0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, -1, -1, -1, -1);
    __m128i part[4];
    for (int i = 0; i < 4; ++i) part[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i*)(from + 12 * i)), order);
    const __m128i a = _mm_unpacklo_epi32(part[0], part[1]), b = _mm_unpacklo_epi32(part[2], part[3]);
    red = _mm_unpacklo_epi64(a, b);
    green = _mm_unpackhi_epi64(a, b);
    blue = _mm_unpacklo_epi64(_mm_unpackhi_epi32(part[0], part[1]), _mm_unpackhi_epi32(part[2], part[3]));
}

inline void normalised(__m128i bytes, float scale, float shift, float* to) {
#if defined(__AVX512F__)
    const __m512 x = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));
    _mm512_storeu_ps(to, _mm512_add_ps(_mm512_mul_ps(x, _mm512_set1_ps(scale)), _mm512_set1_ps(shift)));
#else
    for (int half = 0; half < 2; ++half) {
        const __m256 x = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(half ? _mm_srli_si128(bytes, 8) : bytes));
        _mm256_storeu_ps(to + 8 * half, _mm256_add_ps(_mm256_mul_ps(x, _mm256_set1_ps(scale)), _mm256_set1_ps(shift)));
    }
#endif
}
#endif

inline void floats(const Resample& task, int y, const uint8_t* line) {
    const int width = task.columns.size, channels = task.channels;
    float* out = static_cast<float*>(task.out);
    if (task.layout == PictureLayout::floats_nhwc) {
        out += ptrdiff_t(y) * width * channels;
        for (int x = 0; x < width; ++x)
            for (int c = 0; c < channels; ++c, ++line) *out++ = float(*line) * task.scale[c] + task.shift[c];
        return;
    }
    const ptrdiff_t plane = ptrdiff_t(task.rows.size) * width;
    out += ptrdiff_t(y) * width;
    int x = 0;
#if defined(__AVX2__)
    for (; channels == 3 && x + 16 <= width; x += 16) {
        __m128i part[3];
        planes(line + 3 * x, part[0], part[1], part[2]);
        for (int c = 0; c < 3; ++c) normalised(part[c], task.scale[c], task.shift[c], out + c * plane + x);
    }
#endif
    for (; x < width; ++x)
        for (int c = 0; c < channels; ++c)
            out[c * plane + x] = float(line[x * channels + c]) * task.scale[c] + task.shift[c];
}

}  // namespace

void resample(const Resample& task) {
    const int line = task.columns.size * task.channels;
    const int first = task.rows.first[0];
    const int last = task.rows.first[task.rows.size - 1] + task.rows.count[task.rows.size - 1];
    const ptrdiff_t box_bytes = ptrdiff_t(task.width) * task.channels, narrow_bytes = line + kSlack;
    int y = first;
#if defined(__AVX512BW__)
    // below each of these there is one more row of the box, so that reading on to its end is reading pixels
    const bool whole = task.channels == 3 && task.columns.size % 4 == 0 && task.row_bytes >= box_bytes;
    for (; whole && y + kLines < last; y += kLines)
        columns_by_four<kLines>(task, task.pixels + y * task.row_bytes, task.row_bytes, task.row_bytes + box_bytes,
                                task.narrow + y * narrow_bytes);
#endif
    for (; y < last; ++y) {
        const uint8_t* row = task.pixels + y * task.row_bytes;
        uint8_t* to = task.narrow + y * narrow_bytes;
        if (task.channels == 3)
            columns<3>(task, row, box_bytes, to);
        else
            columns<1>(task, row, box_bytes, to);
    }
    for (int y = 0; y < task.rows.size; ++y) {
        rows(task, y, task.line);
        if (task.layout == PictureLayout::bytes_nhwc)
            memcpy(static_cast<uint8_t*>(task.out) + ptrdiff_t(y) * line, task.line, size_t(line));
        else
            floats(task, y, task.line);
    }
}

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
