// The gradient of a convolution's weights for Python.
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>

#include "bind.h"
#include "bind_arrays.h"
#include "dispatch.h"

namespace nb = nanobind;

namespace {

using convsmith::Convolution;
using convsmith::convolution_of;
using convsmith::holds;
using convsmith::level_of;
using convsmith::require;
using convsmith::span;
using Input = convsmith::Array<const float>;
using Output = convsmith::Array<float>;

size_t workspace_bytes(const std::string& level, const std::vector<int>& sizes) {
    return level_of(level).gradient->workspace_bytes(convolution_of(sizes));
}

void weight_gradient(const std::string& level, const std::vector<int>& sizes, Input x, Input dy, Output dw,
                     Output workspace, int threads) {
    const Convolution v = convolution_of(sizes);
    const convsmith::ConvolutionGradient& gradient = *level_of(level).gradient;
    if (threads < 1) throw std::invalid_argument("threads must be at least 1");
    require(x.shape(0) >= span(input_pixels(v), v.x_pitch, v.c), "x");
    require(dy.shape(0) >= span(output_pixels(v), v.y_pitch, v.k), "dy");
    require(dw.shape(0) == weight_count(v), "dw");
    require(holds(workspace, gradient.workspace_bytes(v)), "workspace");
    const float *image = x.data(), *outer = dy.data();
    float *to = dw.data(), *scratch = workspace.data();
    nb::gil_scoped_release release;
    gradient.weights(v, image, outer, to, scratch, threads);
}

}  // namespace

void bind_gradient(nb::module_& m) {
    m.def("gradient_workspace_bytes", &workspace_bytes, nb::arg("level"), nb::arg("sizes"));
    m.def("weight_gradient", &weight_gradient, nb::arg("level"), nb::arg("sizes"), nb::arg("x").noconvert(),
          nb::arg("dy").noconvert(), nb::arg("dw").noconvert(), nb::arg("workspace").noconvert(), nb::arg("threads"),
          "Fill dw with the gradient of the weights.");
}
