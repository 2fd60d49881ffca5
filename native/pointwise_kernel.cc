// Functions of single elements and of pairs with broadcasting, along any loop nest. Compiled once per instruction set.
// The plain reference is convsmith.kernels.pointwise.
#include "elementary.h"
#include "operator_levels.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

// Where a row of a loop nest begins; `next` goes on to the row after it.
struct Row {
    const Loop& loop;
    long index[kAxes];
    long y = 0, a = 0, b = 0;

    Row(const Loop& nest, long row) : loop(nest) {
        for (int axis = loop.rank - 2; axis >= 0; --axis) {
            index[axis] = row % loop.size[axis];
            row /= loop.size[axis];
            y += index[axis] * loop.y[axis];
            a += index[axis] * loop.a[axis];
            b += index[axis] * loop.b[axis];
        }
    }

    void next() {
        for (int axis = loop.rank - 2; axis >= 0; --axis) {
            y += loop.y[axis];
            a += loop.a[axis];
            b += loop.b[axis];
            if (++index[axis] < loop.size[axis]) return;
            index[axis] = 0;
            y -= loop.size[axis] * loop.y[axis];
            a -= loop.size[axis] * loop.a[axis];
            b -= loop.size[axis] * loop.b[axis];
        }
    }
};

inline F fetch(const float* at, long stride, long left) {
    if (stride == 1) return left >= kLanes ? load(at) : load_part(at, int(left));
    if (stride == 0) return all(*at);
    F v = {};
    for (int lane = 0; lane < kLanes && lane < left; ++lane) v[lane] = at[lane * stride];
    return v;
}

inline void put(float* at, long stride, long left, F v) {
    if (stride == 1 && left >= kLanes)
        store(at, v);
    else if (stride == 1)
        store_part(at, v, int(left));
    else
        for (int lane = 0; lane < kLanes && lane < left; ++lane) at[lane * stride] = v[lane];
}

// One chunk of a row. Adjacent elements, the usual case, have a loop of their own without a choice in it.
template <class Function>
inline void compute_line(const Function& f, const float* a, long a_step, const float* b, long b_step, float* y,
                         long y_step, long count) {
    long i = 0;
    if (y_step == 1 && a_step == 1 && (b_step == 0 || b_step == 1))
        for (; i + kLanes <= count; i += kLanes) store(y + i, f(load(a + i), b_step ? load(b + i) : all(*b)));
    for (; i < count; i += kLanes)
        put(y + i * y_step, y_step, count - i,
            f(fetch(a + i * a_step, a_step, count - i), fetch(b + i * b_step, b_step, count - i)));
}

template <class Function>
void compute_items(const Pointwise& p, const float* a, const float* b, float* y, long first, long last, Function f) {
    const int inner = p.loop.rank - 1;
    const long size = p.loop.size[inner], chunks = (size + kChunk - 1) / kChunk;
    const long y_step = p.loop.y[inner], a_step = p.loop.a[inner], b_step = p.loop.b[inner];
    Row row(p.loop, first / chunks);
    long chunk = first % chunks;
    for (long item = first; item < last; ++item) {
        const long from = chunk * kChunk, count = size - from < kChunk ? size - from : kChunk;
        compute_line(f, a + row.a + from * a_step, a_step, b + row.b + from * b_step, b_step, y + row.y + from * y_step,
                     y_step, count);
        if (++chunk == chunks) {
            chunk = 0;
            row.next();
        }
    }
}

inline F negative_part(F v) { return smaller(v, all(0.0f)); }

inline F smaller_or_nan(F a, F b) { return blend(a != a, a, smaller(a, b)); }

inline F larger_or_nan(F a, F b) { return blend(a != a, a, larger(a, b)); }

inline F power(F a, F b) {
    F result;
    for (int lane = 0; lane < kLanes; ++lane) result[lane] = __builtin_powf(a[lane], b[lane]);
    return result;
}

inline F gelu_by_tanh(F v) {
    return all(0.5f) * v * (all(1.0f) + hyperbolic_tangent(all(0.7978845608f) * (v + all(0.044715f) * v * v * v)));
}

inline F signum(F v) { return blend(v != v, v, blend(v > F{}, all(1.0f), blend(v < F{}, all(-1.0f), F{}))); }

}  // namespace

void compute_unary(const Pointwise& p, const float* a, const float*, float* y, long first, long last) {
    const float alpha = p.alpha, beta = p.beta;
    const auto each = [&](auto f) { compute_items(p, a, a, y, first, last, [f](F v, F) { return f(v); }); };
    switch (Unary(p.operation)) {
        case Unary::relu:
            return each([](F v) { return larger(F{}, v); });
        case Unary::clip:
            return each([=](F v) { return clipped(v, alpha, beta); });
        case Unary::leaky_relu:
            return each([=](F v) { return blend(v < F{}, v * all(alpha), v); });
        case Unary::elu:
            return each(
                [=](F v) { return blend(v < F{}, all(alpha) * lane_by_lane<scalar_expm1>(negative_part(v)), v); });
        case Unary::sigmoid:
            return each([](F v) { return logistic(v); });
        case Unary::silu:
            return each([](F v) { return v * logistic(v); });
        case Unary::hard_sigmoid:
            return each([=](F v) { return clipped(v * all(alpha) + all(beta), 0.0f, 1.0f); });
        case Unary::hard_swish:
            return each([](F v) { return v * clipped(v * all(1.0f / 6) + all(0.5f), 0.0f, 1.0f); });
        case Unary::tanh:
            return each([](F v) { return hyperbolic_tangent(v); });
        case Unary::gelu:
            return each([](F v) { return all(0.5f) * v * (all(1.0f) + error_function(v * all(0.7071067812f))); });
        case Unary::gelu_tanh:
            return each([](F v) { return gelu_by_tanh(v); });
        case Unary::mish:
            return each([](F v) { return v * hyperbolic_tangent(soft_plus(v)); });
        case Unary::softplus:
            return each([](F v) { return soft_plus(v); });
        case Unary::erf:
            return each([](F v) { return error_function(v); });
        case Unary::exp:
            return each([](F v) { return lane_by_lane<scalar_exp>(v); });
        case Unary::log:
            return each([](F v) { return lane_by_lane<scalar_log>(v); });
        case Unary::sqrt:
            return each([](F v) { return root(v); });
        case Unary::reciprocal:
            return each([](F v) { return all(1.0f) / v; });
        case Unary::abs:
            return each([](F v) { return absolute(v); });
        case Unary::neg:
            return each([](F v) { return -v; });
        case Unary::floor:
            return each([](F v) { return lane_by_lane<scalar_floor>(v); });
        case Unary::ceil:
            return each([](F v) { return lane_by_lane<scalar_ceil>(v); });
        case Unary::round:
            return each([](F v) { return lane_by_lane<scalar_round>(v); });
        case Unary::sign:
            return each([](F v) { return signum(v); });
    }
}

void compute_binary(const Pointwise& p, const float* a, const float* b, float* y, long first, long last) {
    const auto each = [&](auto f) { compute_items(p, a, b, y, first, last, f); };
    switch (Binary(p.operation)) {
        case Binary::add:
            return each([](F v, F w) { return v + w; });
        case Binary::sub:
            return each([](F v, F w) { return v - w; });
        case Binary::mul:
            return each([](F v, F w) { return v * w; });
        case Binary::div:
            return each([](F v, F w) { return v / w; });
        case Binary::min:
            return each([](F v, F w) { return smaller_or_nan(v, w); });
        case Binary::max:
            return each([](F v, F w) { return larger_or_nan(v, w); });
        case Binary::pow:
            return each([](F v, F w) { return power(v, w); });
        case Binary::prelu:
            return each([](F v, F w) { return blend(v < F{}, v * w, v); });
    }
}

namespace {

// Rows of adjacent elements, each a copy of memory.
inline void copy_rows(const float* a, long a_row, float* y, long y_row, long rows, long columns) {
    for (long i = 0; i < rows; ++i, a += a_row, y += y_row) memcpy(y, a, size_t(columns) * sizeof(float));
}

// A few columns of many rows: down each column, where one of the two usually lies in adjacent elements.
inline void copy_columns(const float* a, long a_row, long a_step, float* y, long y_row, long y_step, long rows,
                         long columns) {
    for (long j = 0; j < columns; ++j, a += a_step, y += y_step)
        for (long i = 0; i < rows; ++i) y[i * y_row] = a[i * a_row];
}

// Squares, so that the cache lines of both sides are used up while they are near.
inline void copy_squares(const float* a, long a_row, long a_step, float* y, long y_row, long y_step, long rows,
                         long columns) {
    constexpr long kSide = 16;
    for (long top = 0; top < rows; top += kSide)
        for (long left = 0; left < columns; left += kSide) {
            const long bottom = top + kSide < rows ? top + kSide : rows;
            const long right = left + kSide < columns ? left + kSide : columns;
            for (long i = top; i < bottom; ++i)
                for (long j = left; j < right; ++j) y[i * y_row + j * y_step] = a[i * a_row + j * a_step];
        }
}

}  // namespace

void copy_items(const Copy& c, const float* a, float* y, long first, long last) {
    // Row walks all axes but the last of a nest; the nest without the copy's last axis makes it walk the blocks' axes.
    Loop outer = c.loop;
    const int inner = outer.rank - 1, middle = outer.rank - 2;
    --outer.rank;
    const long rows = c.loop.size[middle], columns = c.loop.size[inner], blocks = (rows + c.block - 1) / c.block;
    const long a_row = c.loop.a[middle], a_step = c.loop.a[inner], y_row = c.loop.y[middle], y_step = c.loop.y[inner];
    Row at(outer, first / blocks);
    long block = first % blocks;
    for (long item = first; item < last; ++item) {
        const long from = block * c.block, count = rows - from < c.block ? rows - from : c.block;
        const float* const source = a + at.a + from * a_row;
        float* const target = y + at.y + from * y_row;
        if (a_step == 1 && y_step == 1)
            copy_rows(source, a_row, target, y_row, count, columns);
        else if (columns < 16 || a_step == 0)
            copy_columns(source, a_row, a_step, target, y_row, y_step, count, columns);
        else
            copy_squares(source, a_row, a_step, target, y_row, y_step, count, columns);
        if (++block == blocks) {
            block = 0;
            at.next();
        }
    }
}

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
