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

const convsmith::GradientAlgorithm& algorithm_of(const std::string& level, const std::string& name) {
    return convsmith::gradient_algorithm(level_of(level), name);
}

std::vector<std::string> gradient_names(const std::string& level) {
    return convsmith::names_of(*level_of(level).gradients);
}

bool supports(const std::string& level, const std::string& name, const std::vector<int>& sizes) {
    return algorithm_of(level, name).supports(convolution_of(sizes));
}

size_t workspace_bytes(const std::string& level, const std::string& name, const std::vector<int>& sizes, int threads) {
    return algorithm_of(level, name).workspace_bytes(convolution_of(sizes), threads);
}

void weight_gradient(const std::string& level, const std::string& name, const std::vector<int>& sizes, Input x,
                     Input dy, Output dw, Output workspace, int threads) {
    const Convolution v = convolution_of(sizes);
    const convsmith::GradientAlgorithm& gradient = algorithm_of(level, name);
    if (!gradient.supports(v)) throw std::invalid_argument("gradient " + name + " does not support this convolution");
    if (threads < 1) throw std::invalid_argument("threads must be at least 1");
    require(x.shape(0) >= span(input_pixels(v), v.x_pitch, v.c), "x");
    require(dy.shape(0) >= span(output_pixels(v), v.y_pitch, v.k), "dy");
    require(dw.shape(0) == weight_count(v), "dw");
    require(holds(workspace, gradient.workspace_bytes(v, threads)), "workspace");
    const float *image = x.data(), *outer = dy.data();
    float *to = dw.data(), *scratch = workspace.data();
    nb::gil_scoped_release release;
    gradient.weights(v, image, outer, to, scratch, threads);
}

}  // namespace

void bind_gradient(nb::module_& m) {
    m.def("gradient_names", &gradient_names, nb::arg("level"), "Names of the ways to the gradient of weights.");
    m.def("gradient_supports", &supports, nb::arg("level"), nb::arg("name"), nb::arg("sizes"));
    m.def("gradient_workspace_bytes", &workspace_bytes, nb::arg("level"), nb::arg("name"), nb::arg("sizes"),
          nb::arg("threads"));
    m.def("weight_gradient", &weight_gradient, nb::arg("level"), nb::arg("name"), nb::arg("sizes"),
          nb::arg("x").noconvert(), nb::arg("dy").noconvert(), nb::arg("dw").noconvert(),
          nb::arg("workspace").noconvert(), nb::arg("threads"), "Fill dw with the gradient of the weights.");
}
