// The one-dimensional transforms of Winograd's convolutions F(M, R) of A = M + R - 1 points, on vectors.
//
// The points are 0, infinity and pairs +-p: 1 for A = 4; 1, 2 for A = 6; 1, 2, 1/2 for A = 8. In exact arithmetic
//     output = inverse(kernel(taps) * forward(window)),
// for any M and R of the same A. A = 1 is the identity: a 1xR kernel is transformed along one axis only.
// Winograd 1980, Arithmetic Complexity of Computations; Lavin & Gray 2016, arXiv 1509.09308; the pairs as in Blahut
// 2010.
#pragma once

#include "lanes.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

// The pairs' points and what `kernel` multiplies with at 0 and at each pair.
template <int A>
struct Points;
template <>
struct Points<4> {
    static constexpr float zero = 1.0f, at[] = {1.0f}, scale[] = {0.5f};
};
template <>
struct Points<6> {
    static constexpr float zero = 0.25f, at[] = {1.0f, 2.0f}, scale[] = {-1.0f / 6, 1.0f / 24};
};
template <>
struct Points<8> {
    static constexpr float zero = 1.0f, at[] = {1.0f, 2.0f, 0.5f}, scale[] = {-2.0f / 9, 1.0f / 90, 32.0f / 45};
};

constexpr float power(float base, int exponent) { return exponent == 0 ? 1.0f : base * power(base, exponent - 1); }

template <int A>
inline void forward(const F (&d)[A], F (&o)[A]) {
    if constexpr (A == 1) {
        o[0] = d[0];
    } else if constexpr (A == 4) {
        o[0] = d[0] - d[2];
        o[1] = d[2] + d[1];
        o[2] = d[2] - d[1];
        o[3] = d[3] - d[1];
    } else if constexpr (A == 6) {
        o[0] = 4.0f * d[0] + (d[4] - 5.0f * d[2]);
        const F even1 = d[4] - 4.0f * d[2], odd1 = d[3] - 4.0f * d[1];
        o[1] = even1 + odd1;
        o[2] = even1 - odd1;
        const F even2 = d[4] - d[2], odd2 = 2.0f * (d[3] - d[1]);
        o[3] = even2 + odd2;
        o[4] = even2 - odd2;
        o[5] = 4.0f * d[1] + (d[5] - 5.0f * d[3]);
    } else {
        static_assert(A == 8, "points are known for 1, 4, 6 and 8");
        o[0] = 5.25f * (d[4] - d[2]) + (d[0] - d[6]);
        const F even1 = (d[2] + d[6]) - 4.25f * d[4], odd1 = (d[1] + d[5]) - 4.25f * d[3];
        o[1] = even1 + odd1;
        o[2] = even1 - odd1;
        const F even2 = 0.25f * d[2] + (d[6] - 1.25f * d[4]), odd2 = 0.5f * d[1] + (2.0f * d[5] - 2.5f * d[3]);
        o[3] = even2 + odd2;
        o[4] = even2 - odd2;
        const F even3 = 4.0f * d[2] + (d[6] - 5.0f * d[4]), odd3 = 2.0f * d[1] + (0.5f * d[5] - 2.5f * d[3]);
        o[5] = even3 + odd3;
        o[6] = even3 - odd3;
        o[7] = 5.25f * (d[3] - d[5]) + (d[7] - d[1]);
    }
}

template <int A, int R>
inline void kernel(const F (&g)[R], F (&o)[A]) {
    if constexpr (A == 1) {
        o[0] = g[0];
    } else {
        o[0] = Points<A>::zero * g[0];
#pragma GCC unroll 4
        for (int pair = 0; pair < A / 2 - 1; ++pair) {
            const float p = Points<A>::at[pair], scale = Points<A>::scale[pair];
            F even = scale * g[0], odd = scale * p * g[1];
#pragma GCC unroll 8
            for (int i = 2; i < R; ++i) (i % 2 ? odd : even) += scale * power(p, i) * g[i];
            o[1 + 2 * pair] = even + odd;
            o[2 + 2 * pair] = even - odd;
        }
        o[A - 1] = g[R - 1];
    }
}

template <int A, int M>
inline void inverse(const F (&t)[A], F (&y)[M]) {
    if constexpr (A == 1) {
        y[0] = t[0];
    } else {
        constexpr int kPairs = A / 2 - 1;
        F even[kPairs], odd[kPairs];
#pragma GCC unroll 4
        for (int pair = 0; pair < kPairs; ++pair) {
            even[pair] = t[1 + 2 * pair] + t[2 + 2 * pair];
            odd[pair] = t[1 + 2 * pair] - t[2 + 2 * pair];
        }
#pragma GCC unroll 8
        for (int i = 0; i < M; ++i) {
            F sum = i % 2 ? odd[0] : even[0];  // the first point is 1
            if (i == 0) sum += t[0];
#pragma GCC unroll 4
            for (int pair = 1; pair < kPairs; ++pair)
                sum += power(Points<A>::at[pair], i) * (i % 2 ? odd[pair] : even[pair]);
            if (i == M - 1) sum += t[A - 1];
            y[i] = sum;
        }
    }
}

}  // namespace
}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
