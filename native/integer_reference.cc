#include "integer_reference.h"

#include <cmath>
#include <cstring>

#include "parts.h"
#include "reference_sums.h"

namespace convsmith {
namespace {

struct Job {
    const Convolution& v;
    const IntegerInput& input;
    const uint8_t* x;
    const int8_t* w_kcrs;
    void* y;
    const IntegerEpilogue& epilogue;
};

int32_t sum_of(const Job& job, long n, int row, int column, int k) {
    const auto product = [&job](uint8_t byte, int8_t weight) {
        const int code = job.input.is_signed ? int(int8_t(byte)) : int(byte);
        return int64_t(code - job.input.zero) * weight;
    };
    return int32_t(sum_of_window<int64_t>(job.v, job.x, job.w_kcrs, n, row, column, k, product));
}

int code_of(float value, int zero, int low, int high) {
    const float most = float(high - zero), least = float(low - zero);
    return int(std::nearbyint(value < least ? least : value > most ? most : value)) + zero;
}

void finish(const Job& job, int32_t sum, long pixel, int k) {
    const IntegerEpilogue& e = job.epilogue;
    const long at = pixel * job.v.y_pitch + k;
    if (e.bias) sum = int32_t(uint32_t(sum) + uint32_t(e.bias[k]));
    if (e.result == IntegerResult::sums) {
        static_cast<int32_t*>(job.y)[at] = sum;
        return;
    }
    float value = float(sum) * e.factor[k];
    if (e.result == IntegerResult::numbers) {
        static_cast<float*>(job.y)[at] = value;
        return;
    }
    if (e.residual) {
        if (e.middle_factor != 0) value = float(code_of(value, 0, e.middle_low, e.middle_high)) * e.middle_factor;
        value += float(int(e.residual[pixel * e.residual_pitch + k]) - e.residual_zero) * e.residual_factor;
    }
    static_cast<uint8_t*>(job.y)[at] = uint8_t(code_of(value, e.zero, e.low, e.high));
}

void convolve_row(void* context, size_t part, int) {
    const Job& job = *static_cast<const Job*>(context);
    const Convolution& v = job.v;
    for (int column = 0; column < v.out_w; ++column)
        for (int k = 0; k < v.k; ++k) {
            const int32_t sum = sum_of(job, long(part) / v.out_h, int(part % v.out_h), column, k);
            finish(job, sum, long(part) * v.out_w + column, k);
        }
}

bool supports(const Convolution& v) { return long(v.c / v.groups) * v.r * v.s <= kMostProducts; }

size_t prepared_bytes(const Convolution& v) { return size_t(v.k) * size_t(v.c / v.groups) * size_t(v.r) * v.s; }

void prepare(const Convolution& v, const int8_t* w_kcrs, void* prepared) {
    std::memcpy(prepared, w_kcrs, prepared_bytes(v));
}

size_t workspace_bytes(const Convolution&, int) { return 0; }

void run(const Convolution& v, const IntegerInput& input, const uint8_t* x, const void* prepared, void* y,
         const IntegerEpilogue& epilogue, void*, int threads) {
    Job job{v, input, x, static_cast<const int8_t*>(prepared), y, epilogue};
    parallel_parts(size_t(v.n) * size_t(v.out_h), threads, convolve_row, &job);
}

}  // namespace

const IntegerAlgorithm kIntegerLoops = {"int8_loops", supports, prepared_bytes, prepare, workspace_bytes, run};

}  // namespace convsmith
