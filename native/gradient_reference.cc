// The gradient of a convolution's weights, one product after the other.
#include "gradient.h"
#include "parts.h"

namespace convsmith {
namespace {

struct Job {
    const Convolution& v;
    const float* x;
    const float* dy;
    float* dw_kcrs;
};

double sum_over_pixels(const Job& job, int k, int c, int r, int s) {
    const Convolution& v = job.v;
    const int channel = k / (v.k / v.groups) * (v.c / v.groups) + c;
    double sum = 0;
    for (long n = 0; n < v.n; ++n)
        for (int row = 0; row < v.out_h; ++row)
            for (int column = 0; column < v.out_w; ++column) {
                const int i = row * v.stride_h - v.pad_top + r * v.dilation_h;
                const int j = column * v.stride_w - v.pad_left + s * v.dilation_w;
                if (i < 0 || i >= v.h || j < 0 || j >= v.w) continue;
                sum += double(job.x[((n * v.h + i) * v.w + j) * v.x_pitch + channel]) *
                       job.dy[((n * v.out_h + row) * v.out_w + column) * v.y_pitch + k];
            }
    return sum;
}

void gradient_of_output(void* context, size_t k, int) {
    const Job& job = *static_cast<const Job*>(context);
    const Convolution& v = job.v;
    const int channels = v.c / v.groups;
    for (int c = 0; c < channels; ++c)
        for (int r = 0; r < v.r; ++r)
            for (int s = 0; s < v.s; ++s)
                job.dw_kcrs[((long(k) * channels + c) * v.r + r) * v.s + s] =
                    float(sum_over_pixels(job, int(k), c, r, s));
}

bool supports(const Convolution&) { return true; }

size_t workspace_bytes(const Convolution&, int) { return 0; }

void weights(const Convolution& v, const float* x, const float* dy, float* dw_kcrs, void*, int threads) {
    Job job{v, x, dy, dw_kcrs};
    parallel_parts(size_t(v.k), threads, gradient_of_output, &job);
}

const GradientAlgorithm loops = {"loops", supports, workspace_bytes, weights};
const GradientAlgorithm* const entries[] = {&loops};

}  // namespace

const GradientTable kReferenceGradients = {entries, 1};

}  // namespace convsmith
