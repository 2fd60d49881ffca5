// Double lanes, and results rounded to odd: what the rounded kernels share.
#pragma once

#include "lanes.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

constexpr int kHalf = kLanes / 2;
typedef double D __attribute__((vector_size(8 * kHalf)));
typedef int64_t L __attribute__((vector_size(8 * kHalf)));
typedef uint64_t W __attribute__((vector_size(8 * kHalf)));
typedef float HalfF __attribute__((vector_size(4 * kHalf)));
typedef int32_t HalfI __attribute__((vector_size(4 * kHalf)));
typedef uint32_t HalfU __attribute__((vector_size(4 * kHalf)));

inline D all(double value) { return value - D{}; }

inline W all(uint64_t value) { return value - W{}; }

inline D widened(const float* at) {
    HalfF v;
    memcpy(&v, at, sizeof v);
    return __builtin_convertvector(v, D);
}

inline D load_wide(const double* at) {
    D v;
    memcpy(&v, at, sizeof v);
    return v;
}

inline void store(double* at, D v) { memcpy(at, &v, sizeof v); }

// One code away from or towards zero where a result (`code`) is even and misses the exact one by `error`, whose
// comparisons with 0 are false where the result is not a finite one.
inline D to_odd(D total, D error) {
    const W code = (W)total;
    const L even = (L)(code & 1) - 1;
    const L outwards = (L)(error > 0) ^ ((L)code >> 63), inexact = (L)((error > 0) | (error < 0));
    return (D)(code + (W)(inexact & even & ((outwards & 2) - 1)));
}

// a + b rounded to odd.
inline D odd_sum(D a, D b) {
    const D total = a + b, part = total - a;
    return to_odd(total, (a - (total - part)) + (b - part));
}

// The one of the two floats around a double whose code is odd or even, where the double is between them; it is exact or
// itself rounded to odd.
inline HalfF narrowed(D exact, int32_t wanted) {
    const HalfF nearest = __builtin_convertvector(exact, HalfF);
    const D error = exact - __builtin_convertvector(nearest, D);
    const HalfU code = (HalfU)nearest;
    const HalfI other = -((HalfI)(code & 1) ^ wanted);
    const HalfI above = __builtin_convertvector((L)(error > 0), HalfI);
    const HalfI inexact = __builtin_convertvector((L)((error > 0) | (error < 0)), HalfI);
    const HalfI outwards = above ^ ((HalfI)code >> 31);
    return (HalfF)(code + (HalfU)(inexact & other & ((outwards & 2) - 1)));
}

// The two halves of a float vector as doubles, and back.
struct Pair {
    D low, high;

    Pair(D l, D h) : low(l), high(h) {}
    explicit Pair(F v) {
        float lanes[kLanes];
        store(lanes, v);
        low = widened(lanes);
        high = widened(lanes + kHalf);
    }
};

inline F join(HalfF low, HalfF high) {
    F v;
    memcpy(&v, &low, sizeof low);
    memcpy((char*)&v + sizeof low, &high, sizeof high);
    return v;
}

inline F narrow_odd(const Pair& exact) { return join(narrowed(exact.low, 1), narrowed(exact.high, 1)); }
inline F narrow_even(const Pair& exact) { return join(narrowed(exact.low, 0), narrowed(exact.high, 0)); }

}  // namespace
}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
