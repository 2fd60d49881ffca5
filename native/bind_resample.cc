// Resampling of pictures, for Python: the weights of each axis, and a batch on several threads.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <stdexcept>
#include <vector>

#include "bind.h"
#include "dispatch.h"
#include "resample.h"
#include "threads.h"

namespace nb = nanobind;

namespace {

using convsmith::PictureLayout;
using Picture = nb::ndarray<const uint8_t, nb::ndim<3>, nb::device::cpu>;
using Boxes = nb::ndarray<const int32_t, nb::shape<-1, 4>, nb::c_contig, nb::device::cpu>;
using Flags = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Numbers = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <typename T>
using Batch = nb::ndarray<T, nb::ndim<4>, nb::c_contig, nb::device::cpu>;

// The weights of Pillow's bilinear filter: a triangle as wide as two steps, or two source pixels where it enlarges.
struct Axis {
    std::vector<int32_t> first, count, weights, reach, fours;
    std::vector<int8_t> digits;
    int taps;

    Axis(int from, int to, bool mirrored) : first(size_t(to)), count(size_t(to)) {
        const double scale = double(from) / to, wide = scale < 1 ? 1 : scale;
        taps = (int(std::ceil(wide)) * 2 + 1 + 3) / 4 * 4;
        weights.assign(size_t(to) * size_t(taps), 0);
        std::vector<double> raw(size_t(taps), 0.0);
        for (int place = 0; place < to; ++place) {
            const double centre = (place + 0.5) * scale;
            int low = int(centre - wide + 0.5), high = int(centre + wide + 0.5);
            if (low < 0) low = 0;
            if (high > from) high = from;
            double sum = 0;
            for (int x = low; x < high; ++x) {
                const double far = std::abs((x - centre + 0.5) * (1 / wide));
                sum += raw[size_t(x - low)] = far < 1 ? 1 - far : 0;
            }
            const size_t at = size_t(mirrored ? to - 1 - place : place);
            first[at] = low;
            count[at] = high - low;
            for (int x = low; x < high; ++x) {
                const double share = sum != 0 ? raw[size_t(x - low)] / sum : raw[size_t(x - low)];
                weights[at * size_t(taps) + size_t(x - low)] = int32_t(0.5 + share * (1 << convsmith::kWeightBits));
            }
        }
    }

    // What only the vector code of rows of three channels reads.
    void group() {
        const size_t to = first.size(), groups = (to + 3) / 4, plane = groups * 16;
        reach.assign(groups, 0);
        fours.assign(groups, 1);
        digits.assign(size_t(taps) / 4 * convsmith::kDigits * plane, 0);
        for (size_t x = 0; x < to; ++x) {
            reach[x / 4] = std::max(reach[x / 4], first[x]);
            fours[x / 4] = std::max(fours[x / 4], (count[x] + 3) / 4);
            for (size_t t = 0; t < size_t(count[x]); ++t) {
                int32_t rest = weights[x * size_t(taps) + t];
                for (size_t k = 0; k < convsmith::kDigits; ++k) {
                    const bool last = k + 1 == convsmith::kDigits;
                    const int32_t digit = last ? rest : ((rest + 32) & 63) - 32;
                    digits[(t / 4 * convsmith::kDigits + k) * plane + 4 * x + t % 4] = int8_t(digit);
                    rest = (rest - digit) / 64;
                }
            }
        }
    }

    convsmith::ResampleAxis view() const {
        return {int(first.size()), taps,         first.data(), count.data(),
                weights.data(),    reach.data(), fours.data(), digits.data()};
    }
};

struct Source {
    const uint8_t* pixels;
    ptrdiff_t row_bytes;
    int height, width;
    bool mirrored;
};

std::vector<Source> sources_of(const nb::list& pictures, const Boxes& boxes, const Flags& mirrored, size_t channels) {
    if (boxes.shape(0) != pictures.size() || mirrored.shape(0) != pictures.size())
        throw std::invalid_argument("there must be one box and one flag for each picture");
    std::vector<Source> found;
    for (size_t i = 0; i < pictures.size(); ++i) {
        const Picture picture = nb::cast<Picture>(pictures[i]);
        const int32_t* box = boxes.data() + 4 * i;
        // the step along an axis of one element means nothing
        if (picture.shape(2) != channels || (channels > 1 && picture.stride(2) != 1) ||
            (picture.shape(1) > 1 && picture.stride(1) != int64_t(channels)))
            throw std::invalid_argument("a picture has another number of channels, or its rows are not contiguous");
        if (!(0 <= box[0] && box[0] < box[2] && size_t(box[2]) <= picture.shape(0) && 0 <= box[1] && box[1] < box[3] &&
              size_t(box[3]) <= picture.shape(1)))
            throw std::invalid_argument("a box is empty or not inside its picture");
        const uint8_t* pixels = picture.data() + box[0] * picture.stride(0) + box[1] * picture.stride(1);
        found.push_back({pixels, picture.stride(0), box[2] - box[0], box[3] - box[1], mirrored.data()[i] != 0});
    }
    return found;
}

void run(const std::vector<Source>& sources, int height, int width, int channels, PictureLayout layout, char* out,
         size_t picture_bytes, const float* scale, const float* shift, int threads, const std::string& level_name) {
    const convsmith::Level& level = convsmith::level_of(level_name);
    nb::gil_scoped_release release;
    convsmith::parallel(sources.size(), threads, [&](size_t i) {
        const Source& source = sources[i];
        Axis columns(source.width, width, source.mirrored);
        if (channels == 3) columns.group();
        const Axis rows(source.height, height, false);
        const size_t line = size_t(width) * size_t(channels) + convsmith::kSlack;
        const std::unique_ptr<uint8_t[]> scratch(new uint8_t[(size_t(source.height) + 1) * line]);  // not cleared
        level.resample({source.pixels, source.row_bytes, source.height, source.width, channels, columns.view(),
                        rows.view(), scratch.get(), scratch.get() + size_t(source.height) * line, layout,
                        out + i * picture_bytes, scale, shift});
    });
}

void to_bytes(const nb::list& pictures, const Boxes& boxes, const Flags& mirrored, Batch<uint8_t> out, int threads,
              const std::string& level) {
    const auto sources = sources_of(pictures, boxes, mirrored, out.shape(3));
    if (out.shape(0) != sources.size()) throw std::invalid_argument("the result has another number of pictures");
    if (out.shape(3) != 1 && out.shape(3) != 3) throw std::invalid_argument("pictures have 1 or 3 channels");
    run(sources, int(out.shape(1)), int(out.shape(2)), int(out.shape(3)), PictureLayout::bytes_nhwc,
        reinterpret_cast<char*>(out.data()), out.shape(1) * out.shape(2) * out.shape(3), nullptr, nullptr, threads,
        level);
}

void to_floats(const nb::list& pictures, const Boxes& boxes, const Flags& mirrored, Batch<float> out,
               bool channels_last, Numbers scale, Numbers shift, int threads, const std::string& level) {
    const size_t height = out.shape(channels_last ? 1 : 2), width = out.shape(channels_last ? 2 : 3);
    const size_t channels = out.shape(channels_last ? 3 : 1);
    const auto sources = sources_of(pictures, boxes, mirrored, channels);
    if (out.shape(0) != sources.size()) throw std::invalid_argument("the result has another number of pictures");
    if (channels != 1 && channels != 3) throw std::invalid_argument("pictures have 1 or 3 channels");
    if (scale.shape(0) != channels || shift.shape(0) != channels)
        throw std::invalid_argument("scale and shift must have one number for each channel");
    run(sources, int(height), int(width), int(channels),
        channels_last ? PictureLayout::floats_nhwc : PictureLayout::floats_nchw, reinterpret_cast<char*>(out.data()),
        4 * height * width * channels, scale.data(), shift.data(), threads, level);
}

}  // namespace

void bind_resample(nb::module_& m) {
    m.def("resample_bytes", &to_bytes, nb::arg("pictures"), nb::arg("boxes").noconvert(),
          nb::arg("mirrored").noconvert(), nb::arg("out").noconvert(), nb::arg("threads"), nb::arg("level"));
    m.def("resample_floats", &to_floats, nb::arg("pictures"), nb::arg("boxes").noconvert(),
          nb::arg("mirrored").noconvert(), nb::arg("out").noconvert(), nb::arg("channels_last"),
          nb::arg("scale").noconvert(), nb::arg("shift").noconvert(), nb::arg("threads"), nb::arg("level"));
}
