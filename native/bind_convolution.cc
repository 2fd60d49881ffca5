// Convolution algorithms for Python: arrays and sizes checked, the kernels called without the interpreter's lock.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <stdexcept>

#include "bind.h"
#include "bind_arrays.h"
#include "dispatch.h"

namespace nb = nanobind;

// The fields of Convolution in their order.
convsmith::Convolution convsmith::convolution_of(const std::vector<int>& sizes) {
    if (sizes.size() != 20) throw std::invalid_argument("a convolution has 20 sizes");
    Convolution v;
    int* const fields[] = {&v.n,          &v.c,       &v.h,        &v.w,          &v.k,
                           &v.r,          &v.s,       &v.stride_h, &v.stride_w,   &v.dilation_h,
                           &v.dilation_w, &v.pad_top, &v.pad_left, &v.pad_bottom, &v.pad_right,
                           &v.groups,     &v.out_h,   &v.out_w,    &v.x_pitch,    &v.y_pitch};
    for (size_t i = 0; i < sizes.size(); ++i) *fields[i] = sizes[i];
    const auto beyond = [](int out, int stride, int dilation, int taps, int size, int before, int after) {
        return long(out - 1) * stride + long(taps - 1) * dilation + 1 > long(size) + before + after;
    };
    if (v.n < 0 || v.c < 1 || v.h < 1 || v.w < 1 || v.k < 1 || v.r < 1 || v.s < 1 || v.stride_h < 1 || v.stride_w < 1 ||
        v.dilation_h < 1 || v.dilation_w < 1 || v.pad_top < 0 || v.pad_left < 0 || v.pad_bottom < 0 ||
        v.pad_right < 0 || v.out_h < 1 || v.out_w < 1)
        throw std::invalid_argument("a size of the convolution is out of range");
    if (v.groups < 1 || v.c % v.groups || v.k % v.groups) throw std::invalid_argument("groups do not divide channels");
    if (v.x_pitch < v.c || v.y_pitch < v.k) throw std::invalid_argument("a pitch is less than the channels");
    if (beyond(v.out_h, v.stride_h, v.dilation_h, v.r, v.h, v.pad_top, v.pad_bottom) ||
        beyond(v.out_w, v.stride_w, v.dilation_w, v.s, v.w, v.pad_left, v.pad_right))
        throw std::invalid_argument("the output reaches beyond the padded input");
    return v;
}

namespace {

using convsmith::Convolution;
using convsmith::convolution_of;
using convsmith::ConvolutionAlgorithm;
using convsmith::Epilogue;
using convsmith::holds;
using convsmith::level_of;
using convsmith::require;
using convsmith::span;
using Input = convsmith::Array<const float>;
using Output = convsmith::Array<float>;

const ConvolutionAlgorithm& algorithm_of(const std::string& level, const std::string& name) {
    return convsmith::convolution_algorithm(level_of(level), name);
}

std::vector<std::string> convolution_names(const std::string& level) {
    return convsmith::names_of(*level_of(level).convolutions);
}

bool supports(const std::string& level, const std::string& name, const std::vector<int>& sizes) {
    return algorithm_of(level, name).supports(convolution_of(sizes));
}

size_t prepared_floats(const std::string& level, const std::string& name, const std::vector<int>& sizes) {
    return algorithm_of(level, name).prepared_floats(convolution_of(sizes));
}

size_t workspace_bytes(const std::string& level, const std::string& name, const std::vector<int>& sizes, int threads) {
    return algorithm_of(level, name).workspace_bytes(convolution_of(sizes), threads);
}

const ConvolutionAlgorithm& supporting(const std::string& level, const std::string& name, const Convolution& v) {
    const ConvolutionAlgorithm& algorithm = algorithm_of(level, name);
    if (!algorithm.supports(v)) throw std::invalid_argument("algorithm " + name + " does not support this convolution");
    return algorithm;
}

void prepare(const std::string& level, const std::string& name, const std::vector<int>& sizes, Input w_kcrs,
             Output prepared) {
    const Convolution v = convolution_of(sizes);
    const ConvolutionAlgorithm& algorithm = supporting(level, name, v);
    require(w_kcrs.shape(0) == weight_count(v), "w");
    require(holds(prepared, algorithm.prepared_floats(v) * sizeof(float)), "prepared");
    const float* from = w_kcrs.data();
    float* to = prepared.data();
    nb::gil_scoped_release release;
    algorithm.prepare(v, from, to);
}

void convolve(const std::string& level, const std::string& name, const std::vector<int>& sizes, Input x, Input prepared,
              Output y, std::optional<Input> bias, std::optional<Input> residual, int residual_pitch, int activation,
              float low, float high, Output workspace, int threads) {
    const Convolution v = convolution_of(sizes);
    const ConvolutionAlgorithm& algorithm = supporting(level, name, v);
    if (threads < 1) throw std::invalid_argument("threads must be at least 1");
    if (activation < 0 || activation >= convsmith::kActivations) throw std::invalid_argument("no such activation");
    require(x.shape(0) >= span(input_pixels(v), v.x_pitch, v.c), "x");
    require(y.shape(0) >= span(output_pixels(v), v.y_pitch, v.k), "y");
    require(holds(prepared, algorithm.prepared_floats(v) * sizeof(float)), "prepared");
    require(holds(workspace, algorithm.workspace_bytes(v, threads)), "workspace");
    require(!bias || bias->shape(0) == size_t(v.k), "bias");
    require(fits_output(residual, residual_pitch, v), "residual");
    const Epilogue epilogue{bias ? bias->data() : nullptr,
                            residual ? residual->data() : nullptr,
                            residual_pitch,
                            convsmith::Activation(activation),
                            low,
                            high};
    const float *from = x.data(), *weights = prepared.data();
    float *to = y.data(), *scratch = workspace.data();
    nb::gil_scoped_release release;
    algorithm.run(v, from, weights, to, epilogue, scratch, threads);
}

}  // namespace

void bind_convolution(nb::module_& m) {
    m.def("convolution_names", &convolution_names, nb::arg("level"), "Names of the algorithms of a level.");
    m.def("convolution_supports", &supports, nb::arg("level"), nb::arg("name"), nb::arg("sizes"));
    m.def("convolution_prepared_floats", &prepared_floats, nb::arg("level"), nb::arg("name"), nb::arg("sizes"));
    m.def("convolution_workspace_bytes", &workspace_bytes, nb::arg("level"), nb::arg("name"), nb::arg("sizes"),
          nb::arg("threads"));
    m.def("convolution_prepare", &prepare, nb::arg("level"), nb::arg("name"), nb::arg("sizes"),
          nb::arg("w_kcrs").noconvert(), nb::arg("prepared").noconvert());
    m.def("convolve", &convolve, nb::arg("level"), nb::arg("name"), nb::arg("sizes"), nb::arg("x").noconvert(),
          nb::arg("prepared").noconvert(), nb::arg("y").noconvert(), nb::arg("bias").none(), nb::arg("residual").none(),
          nb::arg("residual_pitch"), nb::arg("activation"), nb::arg("low"), nb::arg("high"),
          nb::arg("workspace").noconvert(), nb::arg("threads"), "Convolve x into y.");
}
