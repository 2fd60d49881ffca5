// The innermost piece of products of codes: a few pixels times a panel of output channels, all sums in registers.
//
// The pixels' codes lie `pitch` bytes apart and are read where they are, in runs of whole fours: a convolution's kernel
// row, or 64 bytes of packed windows. The weights are signed bytes, panel[four][column][4], in the order of the runs.
#pragma once

#include "integer_lanes.h"
#include "tiles.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {

#if defined(__AVX512VNNI__)
// 28 sums, 2 vectors of the panel and 1 spread element fill the 32 registers.
constexpr int kTileRows = 14;
#elif defined(__AVX512F__)
// 24 sums, 4 halves of the panel, 2 of the spread element.
constexpr int kTileRows = 12;
#else
constexpr int kTileRows = 4;
#endif
constexpr int kTileVectors = 2;
constexpr int kTileColumns = kTileVectors * kLanes;

// The codes of one tile's first pixel: `count` runs of `fours` each, the last of `last_fours`, at these offsets.
struct Runs {
    const long* offsets;
    int count;
    long fours, last_fours;
};

// Where a tile of sums goes: its first pixel and channel, and the channels from there on.
struct Target {
    const Finish& finish;
    long pixel;
    int channel, count;
};

using MultiplyCodes = void (*)(const uint8_t* a, long pitch, const Runs& runs, const int8_t* b, const Target& target);

// The kernel for 1 to kTileRows pixels and 1 to kTileVectors vectors of columns.
MultiplyCodes multiply_codes(int rows, int vectors);

namespace {

// The right factor of one group: `columns` output channels, `fours` of products a sum.
struct Panels {
    int columns;
    long fours;

    int count() const { return (columns + kTileColumns - 1) / kTileColumns; }
    int vectors(int panel) const {
        const int left = columns - panel * kTileColumns;
        return left >= kTileColumns ? kTileVectors : (left + kLanes - 1) / kLanes;
    }
    long offset(int panel) const { return long(panel) * kTileColumns * fours * 4; }
    long bytes() const { return round_up(columns, kLanes) * fours * 4; }

    // Writes all panels; weight(column, place) is a weight, zero where there is none.
    template <class Weight>
    void fill(int8_t* to, const Weight& weight) const {
        for (int panel = 0; panel < count(); ++panel)
            for (long four = 0; four < fours; ++four)
                for (int j = 0; j < vectors(panel) * kLanes; ++j)
                    for (int i = 0; i < 4; ++i) {
                        const int column = panel * kTileColumns + j;
                        *to++ = column < columns ? weight(column, four * 4 + i) : int8_t(0);
                    }
    }
};

// Copies `count` bytes, each xor `flip`; may write up to 63 more.
inline void copy_codes_to(uint8_t* to, const uint8_t* from, long count, uint8_t flip) {
#if defined(__AVX512BW__)
    const __m512i mask = _mm512_set1_epi8(char(flip));
    for (; count >= 64; count -= 64, to += 64, from += 64)
        _mm512_storeu_si512(to, _mm512_xor_si512(_mm512_loadu_si512(from), mask));
    if (count > 0)
        _mm512_storeu_si512(to, _mm512_xor_si512(_mm512_maskz_loadu_epi8((__mmask64(1) << count) - 1, from), mask));
#else
    typedef uint8_t Quarter __attribute__((vector_size(16)));
    for (; count >= 16; count -= 16, to += 16, from += 16) {
        Quarter v;
        memcpy(&v, from, sizeof v);
        v ^= flip;
        memcpy(to, &v, sizeof v);
    }
    for (long i = 0; i < count; ++i) to[i] = from[i] ^ flip;
#endif
}

inline void fill_codes(uint8_t* to, uint8_t value, long count) { memset(to, value, size_t(count)); }

}  // namespace
}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
