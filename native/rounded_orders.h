// The orders of summation, for any way E of carrying numbers. E says what a product, a sum and both in one step are:
//
//   V, A, B                   vectors of sums, of one first factor spread, of second factors; E::lanes of them
//   kStochastic, kBlocks      whether rounding draws random bits; whether E knows `inner`
//   first(const float*), second(const float*)
//   product(a, b, at), sum(s, p, at), step(s, a, b, at): step is sum(s, product), in one rounding where products have
//   none inner(t, a, b, at)        the sum of a block in float32 finish(v, float*)
//
// `at` says which outputs of the tile these are. E also holds the tile's random bits, `draws`.
#pragma once

#include "rounded.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

struct At {
    int row, column;
};

constexpr int kProducts = 0, kSums = 1;

template <class E>
class Summation {
    typedef typename E::V V;
    typedef typename E::Scalar Scalar;

  public:
    Summation(E& e, const RoundedPlan& plan, const RoundedTile& tile) : e_(e), plan_(plan), tile_(tile) {}

    void run() {
        for (int column = 0; column < tile_.columns;) {
            const int left = (tile_.columns - column + E::lanes - 1) / E::lanes;
            const int wide = left >= 3 ? 4 : left;
            if (plan_.order != Order::sequential) {
                for (int row = 0; row < tile_.rows; ++row)
                    wide == 4 ? run_order<4>(row, column) : run_order<1>(row, column);
                column += (wide == 4 ? 4 : 1) * E::lanes;
                continue;
            }
            // Enough sums at once to hide the latency of each.
            int row = 0;
            if (wide == 4) {
                for (; row + 2 <= tile_.rows; row += 2) sequential<2, 4>(row, column);
                if (row < tile_.rows) sequential<1, 4>(row, column);
            } else if (wide == 2) {
                for (; row + 2 <= tile_.rows; row += 2) sequential<2, 2>(row, column);
                if (row < tile_.rows) sequential<1, 2>(row, column);
            } else if (tile_.rows == kTileRows) {
                sequential<kTileRows, 1>(0, column);
            } else {
                for (; row < tile_.rows; ++row) sequential<1, 1>(row, column);
            }
            column += wide * E::lanes;
        }
    }

  private:
    // Of the orders that are not sequential.
    size_t terms() const { return tile_.stretches->count; }

    Scalar* slot(int index, At at) const {
        return (Scalar*)tile_.state + (index * kTileRows + at.row) * kTileColumns + at.column;
    }

    template <int N>
    inline void load_all(int index, At at, V (&v)[N]) const {
        for (int j = 0; j < N; ++j) memcpy(&v[j], slot(index, at) + j * E::lanes, sizeof(V));
    }

    template <int N>
    inline void store_all(int index, At at, const V (&v)[N]) const {
        for (int j = 0; j < N; ++j) memcpy(slot(index, at) + j * E::lanes, &v[j], sizeof(V));
    }

    template <int N>
    inline void finish(At at, const V (&v)[N]) const {
        for (int j = 0; j < N; ++j) e_.finish(v[j], tile_.result + at.row * kTileColumns + at.column + j * E::lanes);
    }

    inline void select(int kind, uint64_t number) const {
        if constexpr (E::kStochastic) e_.draws.select(kind, number);
    }

    template <int R, int N>
    void sequential(int row, int column) {
        if constexpr (E::kStochastic) e_.draws.window(row, R, column, N * E::lanes);
        V s[R][N];
#pragma GCC unroll 4
        for (int i = 0; i < R; ++i) load_all(0, {row + i, column}, s[i]);
        const float* b = tile_.b + column;
        for (size_t part = 0; part < tile_.stretch_count; ++part) {
            const RoundedStretch stretch = tile_.stretches[part];
            const float* a = tile_.a + size_t(stretch.first) * kTileRows + row;
            const size_t end = tile_.first + stretch.first + stretch.count;
            for (size_t t = tile_.first + stretch.first; t < end; ++t, a += kTileRows, b += kTileColumns) {
                select(kProducts, t);
                if constexpr (!E::kExactSums) select(kSums, t);
                typename E::B second[N];
#pragma GCC unroll 4
                for (int j = 0; j < N; ++j) second[j] = e_.second(b + j * E::lanes);
#pragma GCC unroll 4
                for (int i = 0; i < R; ++i) {
                    const typename E::A first = e_.first(a + i);
#pragma GCC unroll 4
                    for (int j = 0; j < N; ++j)
                        s[i][j] = e_.step(s[i][j], first, second[j], {row + i, column + j * E::lanes});
                }
            }
        }
#pragma GCC unroll 4
        for (int i = 0; i < R; ++i) {
            store_all(0, {row + i, column}, s[i]);
            if (tile_.last) finish({row + i, column}, s[i]);
        }
    }

    template <int N>
    void run_order(int row, int column) {
        if constexpr (E::kStochastic) e_.draws.window(row, 1, column, N * E::lanes);
        const At at = {row, column};
        if (plan_.order == Order::pairwise) pairwise<N>(at);
        if (plan_.order == Order::kahan) kahan<N>(at);
        if constexpr (E::kBlocks)
            if (plan_.order == Order::blocked) blocked<N>(at);
    }

    template <int N>
    inline void products(At at, size_t t, V (&p)[N]) {
        select(kProducts, tile_.first + t);
        const typename E::A first = e_.first(tile_.a + t * kTileRows + at.row);
        for (int j = 0; j < N; ++j) {
            const At here = {at.row, at.column + j * E::lanes};
            p[j] = e_.product(first, e_.second(tile_.b + t * kTileColumns + here.column), here);
        }
    }

    template <int N>
    inline void sums(At at, uint64_t number, const V (&a)[N], const V (&b)[N], V (&result)[N]) {
        select(kSums, number);
        for (int j = 0; j < N; ++j) result[j] = e_.sum(a[j], b[j], {at.row, at.column + j * E::lanes});
    }

    // Slot l holds the sum of 2^l terms where bit l of the number of terms is 1.
    template <int N>
    void pairwise(At at) {
        V value[N], earlier[N];
        for (size_t t = 0; t < terms(); ++t) {
            const uint64_t term = tile_.first + t;
            products(at, t, value);
            uint64_t done = term - uint64_t(__builtin_popcountll(term));
            int level = 0;
            for (; term >> level & 1; ++level) {
                load_all(level, at, earlier);
                sums(at, done++, earlier, value, value);
            }
            store_all(level, at, value);
        }
        if (!tile_.last) return;
        const uint64_t terms = tile_.all;
        uint64_t done = terms - uint64_t(__builtin_popcountll(terms));
        int level = __builtin_ctzll(terms);
        load_all(level, at, value);
        if (terms == 1) {
            const V zero[N] = {};
            sums(at, 0, zero, value, value);
        }
        while (++level < 64)
            if (terms >> level & 1) {
                load_all(level, at, earlier);
                sums(at, done++, earlier, value, value);
            }
        finish(at, value);
    }

    template <int N>
    void blocked(At at) {
        V total[N], inner[N];
        load_all(0, at, total);
        load_all(1, at, inner);
        for (size_t t = 0; t < terms(); ++t) {
            const uint64_t term = tile_.first + t;
            select(kProducts, term);
            const typename E::A first = e_.first(tile_.a + t * kTileRows + at.row);
            for (int j = 0; j < N; ++j) {
                const At here = {at.row, at.column + j * E::lanes};
                inner[j] = e_.inner(inner[j], first, e_.second(tile_.b + t * kTileColumns + here.column), here);
            }
            if ((term + 1) % plan_.block && term + 1 != tile_.all) continue;
            sums(at, term / plan_.block, total, inner, total);
            for (int j = 0; j < N; ++j) inner[j] = V{};
        }
        store_all(0, at, total);
        store_all(1, at, inner);
        if (tile_.last) finish(at, total);
    }

    template <int N>
    void kahan(At at) {
        V total[N], carried[N];
        load_all(0, at, total);
        load_all(1, at, carried);
        for (size_t t = 0; t < terms(); ++t) {
            const uint64_t term = tile_.first + t;
            select(kProducts, term);
            select(kSums, 4 * term);
            const typename E::A first = e_.first(tile_.a + t * kTileRows + at.row);
            V y[N], sum[N], minus[N];
            for (int j = 0; j < N; ++j) {
                const At here = {at.row, at.column + j * E::lanes};
                y[j] = e_.step(-carried[j], first, e_.second(tile_.b + t * kTileColumns + here.column), here);
                minus[j] = -total[j];
            }
            sums(at, 4 * term + 1, total, y, sum);
            sums(at, 4 * term + 2, sum, minus, carried);
            for (int j = 0; j < N; ++j) minus[j] = -y[j], total[j] = sum[j];
            sums(at, 4 * term + 3, carried, minus, carried);
        }
        store_all(0, at, total);
        store_all(1, at, carried);
        if (tile_.last) finish(at, total);
    }

    E& e_;
    const RoundedPlan& plan_;
    const RoundedTile& tile_;
};

}  // namespace
}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
