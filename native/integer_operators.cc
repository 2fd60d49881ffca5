// Operators of 8-bit codes: to and from float32, tables, additions, pooling and copies. Compiled once per instruction
// set. The plain reference is convsmith.kernels.integers.
#include "integer_lanes.h"
#include "integer_levels.h"
#include "pooling.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

inline long chunk_end(long size, long item) { return (item + 1) * kChunk < size ? (item + 1) * kChunk : size; }

// zero + nearest(v), within low .. high, which are codes.
inline I codes_of(F v, int zero, int low, int high) {
    return nearest(within(v, float(low - zero), float(high - zero))) + all_sums(zero);
}

inline B larger_bytes(B a, B b) {
    const auto greater = a > b;
    return (a & (B)greater) | (b & ~(B)greater);
}

void pool_window(const IntegerPooling& pooling, const uint8_t* window, const Taps& rows, const Taps& columns,
                 uint8_t* y) {
    const Pooling& p = pooling.windows;
    const long row_step = long(p.dilation_h) * p.w * p.x_pitch, step = long(p.dilation_w) * p.x_pitch;
    const int taken = (rows.last - rows.first) * (columns.last - columns.first);
    const F factor = all(pooling.factor) / all(float(rows.counted) * float(columns.counted));
    for (int channel = 0; channel < p.c; channel += kLanes) {
        const int count = p.c - channel;
        B most = {};
        I sum = {};
        for (int r = rows.first; r < rows.last; ++r)
            for (int s = columns.first; s < columns.last; ++s) {
                const B bytes = load_bytes(window + r * row_step + s * step + channel, count);
                if (p.largest)
                    most = larger_bytes(bytes, most);
                else
                    sum += widened(bytes);
            }
        if (!p.largest) {
            const F value = to_floats(sum - all_sums(taken * pooling.x_zero)) * factor;
            most = narrowed(codes_of(value, pooling.zero, pooling.low, pooling.high));
        }
        store_bytes(y + channel, most, count);
    }
}

}  // namespace

void quantise(const Quantisation& q, const float* x, uint8_t* y, long first, long last) {
    for (long item = first; item < last; ++item)
        for (long i = item * kChunk, end = chunk_end(q.size, item); i < end; i += kLanes) {
            const int count = end - i < kLanes ? int(end - i) : kLanes;
            const F v = (count >= kLanes ? load(x + i) : load_part(x + i, count)) / all(q.scale);
            // the second operand is returned where one is NaN, so zero comes last
            const F number = (F)((I)v & (v == v));
            store_bytes(y + i, narrowed(codes_of(number, q.zero, 0, 255)), count);
        }
}

void dequantise(const Quantisation& q, const uint8_t* x, float* y, long first, long last) {
    for (long item = first; item < last; ++item)
        for (long i = item * kChunk, end = chunk_end(q.size, item); i < end; i += kLanes) {
            const int count = end - i < kLanes ? int(end - i) : kLanes;
            const F v = to_floats(widened(load_bytes(x + i, count)) - all_sums(q.zero)) * all(q.scale);
            count >= kLanes ? store(y + i, v) : store_part(y + i, v, count);
        }
}

void look_up(const LookUp& l, const uint8_t* x, const uint8_t* table, uint8_t* y, long first, long last) {
    for (long item = first; item < last; ++item)
        for (long i = item * kChunk, end = chunk_end(l.size, item); i < end; ++i) y[i] = table[x[i]];
}

void add_codes(const IntegerSum& s, const uint8_t* a, const uint8_t* b, uint8_t* y, long first, long last) {
    for (long item = first; item < last; ++item)
        for (long i = item * kChunk, end = chunk_end(s.size, item); i < end; i += kLanes) {
            const int count = end - i < kLanes ? int(end - i) : kLanes;
            const F left = to_floats(widened(load_bytes(a + i, count)) - all_sums(s.a_zero)) * all(s.a_factor);
            const F right = to_floats(widened(load_bytes(b + i, count)) - all_sums(s.b_zero)) * all(s.b_factor);
            store_bytes(y + i, narrowed(codes_of(left + right, s.zero, s.low, s.high)), count);
        }
}

void pool_codes(const IntegerPooling& pooling, const uint8_t* x, uint8_t* y, long first, long last) {
    const auto pool = [&pooling](const uint8_t* window, const Taps& rows, const Taps& columns, uint8_t* to) {
        pool_window(pooling, window, rows, columns, to);
    };
    pool_windows(pooling.windows, x, y, first, last, pool);
}

void copy_codes(const Copy& c, const uint8_t* a, uint8_t* y, long first, long last) {
    const Loop& loop = c.loop;
    const int inner = loop.rank - 1, middle = loop.rank - 2;
    const long rows = loop.size[middle], columns = loop.size[inner], blocks = (rows + c.block - 1) / c.block;
    for (long item = first; item < last; ++item) {
        long a_at = 0, y_at = 0, rest = item / blocks;
        for (int axis = middle - 1; axis >= 0; --axis) {
            const long index = rest % loop.size[axis];
            rest /= loop.size[axis];
            a_at += index * loop.a[axis];
            y_at += index * loop.y[axis];
        }
        const long begin = item % blocks * c.block, end = begin + c.block < rows ? begin + c.block : rows;
        for (long row = begin; row < end; ++row) {
            const uint8_t* const from = a + a_at + row * loop.a[middle];
            uint8_t* const to = y + y_at + row * loop.y[middle];
            if (loop.a[inner] == 1 && loop.y[inner] == 1)
                memcpy(to, from, size_t(columns));
            else
                for (long i = 0; i < columns; ++i) to[i * loop.y[inner]] = from[i * loop.a[inner]];
        }
    }
}

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
