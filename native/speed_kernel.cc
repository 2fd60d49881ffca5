// Multiply-adds on registers and a pass over three arrays, as fast as one instruction set allows. Compiled once per
// instruction set.
#include "lanes.h"
#include "speed.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {

namespace {

// Two units with a latency of 4 or 5 cycles need 10 sums at a time; 12 of them and two operands fit 16 registers.
constexpr int kSums = 12;

}  // namespace

int multiply_adds(size_t turns) {
    F sums[kSums] = {};
    F a = all(0.999f), b = all(0.001f);
    for (size_t turn = 0; turn < turns; ++turn) {
#pragma GCC unroll 12
        for (int i = 0; i < kSums; ++i) sums[i] = sums[i] * a + b;
        // the sums are used, so that no turn is left out
#if defined(__x86_64__)
        for (int i = 0; i < kSums; ++i) asm volatile("" : "+v"(sums[i]));
#else
        for (int i = 0; i < kSums; ++i) asm volatile("" : "+w"(sums[i]));
#endif
    }
    return 2 * kLanes * kSums;
}

void triad(const float* x, const float* z, float* y, float factor, size_t begin, size_t end) {
    const F scale = all(factor);
    size_t i = begin;
    for (; i + kLanes <= end; i += kLanes) store(y + i, load(x + i) + scale * load(z + i));
    for (; i < end; ++i) y[i] = x[i] + factor * z[i];
}

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
