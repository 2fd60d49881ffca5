#include "convolution_reference.h"

#include <cmath>
#include <cstring>

#include "parts.h"
#include "reference_sums.h"

namespace convsmith {
namespace {

struct Job {
    const Convolution& v;
    const float* x;
    const float* w_kcrs;
    float* y;
    const Epilogue& epilogue;
};

double clipped(double value, double low, double high) { return value < low ? low : value > high ? high : value; }

double activated(double value, const Epilogue& e) {
    switch (e.activation) {
        case Activation::none:
            return value;
        case Activation::relu:
            return value < 0 ? 0 : value;
        case Activation::clip:
            return clipped(value, e.low, e.high);
        case Activation::silu:
            return value / (1 + std::exp(-value));
        case Activation::hard_swish:
            return value * clipped(value / 6 + 0.5, 0, 1);
        case Activation::hard_sigmoid:
            return clipped(value / 6 + 0.5, 0, 1);
        case Activation::sigmoid:
            return 1 / (1 + std::exp(-value));
    }
    return value;
}

double sum_of(const Job& job, long n, int row, int column, int k) {
    const auto product = [](float x, float weight) { return double(x) * weight; };
    return sum_of_window<double>(job.v, job.x, job.w_kcrs, n, row, column, k, product);
}

void convolve_row(void* context, size_t part, int) {
    const Job& job = *static_cast<const Job*>(context);
    const Convolution& v = job.v;
    const Epilogue& e = job.epilogue;
    for (int column = 0; column < v.out_w; ++column)
        for (int k = 0; k < v.k; ++k) {
            const long pixel = long(part) * v.out_w + column;
            double sum = sum_of(job, long(part) / v.out_h, int(part % v.out_h), column, k);
            if (e.bias) sum += e.bias[k];
            if (e.residual) sum += e.residual[pixel * e.residual_pitch + k];
            job.y[pixel * v.y_pitch + k] = float(activated(sum, e));
        }
}

bool supports(const Convolution&) { return true; }

size_t prepared_floats(const Convolution& v) { return size_t(v.k) * size_t(v.c / v.groups) * size_t(v.r) * v.s; }

void prepare(const Convolution& v, const float* w_kcrs, float* prepared) {
    std::memcpy(prepared, w_kcrs, prepared_floats(v) * sizeof(float));
}

size_t workspace_bytes(const Convolution&, int) { return 0; }

void run(const Convolution& v, const float* x, const float* prepared, float* y, const Epilogue& epilogue, void*,
         int threads) {
    Job job{v, x, prepared, y, epilogue};
    parallel_parts(size_t(v.n) * size_t(v.out_h), threads, convolve_row, &job);
}

const ConvolutionAlgorithm loops = {"loops", supports, prepared_floats, prepare, workspace_bytes, run};
const ConvolutionAlgorithm* const entries[] = {&loops};

}  // namespace

const ConvolutionTable kReferenceConvolutions = {entries, 1};

}  // namespace convsmith
