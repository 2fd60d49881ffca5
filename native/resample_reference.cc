// One element at a time: what the kernels of all levels must equal bit for bit.
#include "resample.h"

namespace convsmith {
namespace {

uint8_t rounded(int32_t sum) {
    const int32_t value = sum >> kWeightBits;
    return uint8_t(value < 0 ? 0 : value > 255 ? 255 : value);
}

}  // namespace

void resample_reference(const Resample& task) {
    const int channels = task.channels, width = task.columns.size, line = width * channels;
    const ptrdiff_t narrow_bytes = line + kSlack;
    for (int y = 0; y < task.height; ++y)
        for (int x = 0; x < width; ++x)
            for (int c = 0; c < channels; ++c) {
                int32_t sum = 1 << (kWeightBits - 1);
                const uint8_t* from = task.pixels + y * task.row_bytes + task.columns.first[x] * channels + c;
                for (int t = 0; t < task.columns.count[x]; ++t)
                    sum += from[t * channels] * task.columns.weights[x * task.columns.taps + t];
                task.narrow[y * narrow_bytes + x * channels + c] = rounded(sum);
            }
    for (int y = 0; y < task.rows.size; ++y)
        for (int j = 0; j < line; ++j) {
            int32_t sum = 1 << (kWeightBits - 1);
            for (int t = 0; t < task.rows.count[y]; ++t)
                sum += task.narrow[(task.rows.first[y] + t) * narrow_bytes + j] *
                       task.rows.weights[y * task.rows.taps + t];
            const uint8_t pixel = rounded(sum);
            const int x = j / channels, c = j % channels;
            if (task.layout == PictureLayout::bytes_nhwc)
                static_cast<uint8_t*>(task.out)[ptrdiff_t(y) * line + j] = pixel;
            else if (task.layout == PictureLayout::floats_nhwc)
                static_cast<float*>(task.out)[ptrdiff_t(y) * line + j] = float(pixel) * task.scale[c] + task.shift[c];
            else
                static_cast<float*>(task.out)[(ptrdiff_t(c) * task.rows.size + y) * width + x] =
                    float(pixel) * task.scale[c] + task.shift[c];
        }
}

}  // namespace convsmith
