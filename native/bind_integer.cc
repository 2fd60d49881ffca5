// Convolutions of 8-bit codes for Python: arrays and sizes checked, the kernels called without the interpreter's lock.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <optional>
#include <stdexcept>

#include "bind.h"
#include "bind_arrays.h"
#include "dispatch.h"

namespace nb = nanobind;

namespace {

using convsmith::Convolution;
using convsmith::convolution_of;
using convsmith::holds;
using convsmith::IntegerAlgorithm;
using convsmith::IntegerEpilogue;
using convsmith::IntegerResult;
using convsmith::level_of;
using convsmith::require;
using convsmith::span;
template <class T>
using Array = convsmith::Array<T>;

const IntegerAlgorithm& algorithm_of(const std::string& level, const std::string& name) {
    return convsmith::integer_algorithm(level_of(level), name);
}

std::vector<std::string> integer_names(const std::string& level) {
    return convsmith::names_of(*level_of(level).integers);
}

bool supports(const std::string& level, const std::string& name, const std::vector<int>& sizes) {
    return algorithm_of(level, name).supports(convolution_of(sizes));
}

size_t prepared_bytes(const std::string& level, const std::string& name, const std::vector<int>& sizes) {
    return algorithm_of(level, name).prepared_bytes(convolution_of(sizes));
}

size_t workspace_bytes(const std::string& level, const std::string& name, const std::vector<int>& sizes, int threads) {
    return algorithm_of(level, name).workspace_bytes(convolution_of(sizes), threads);
}

void prepare(const std::string& level, const std::string& name, const std::vector<int>& sizes,
             Array<const int8_t> w_kcrs, Array<uint8_t> prepared) {
    const Convolution v = convolution_of(sizes);
    const IntegerAlgorithm& algorithm = algorithm_of(level, name);
    require(algorithm.supports(v), "the convolution");
    require(w_kcrs.shape(0) == weight_count(v), "w");
    require(holds(prepared, algorithm.prepared_bytes(v)), "prepared");
    const int8_t* from = w_kcrs.data();
    uint8_t* to = prepared.data();
    nb::gil_scoped_release release;
    algorithm.prepare(v, from, to);
}

bool is_code(int value) { return value >= 0 && value <= 255; }

// `numbers`: zero, low, high, residual_zero, middle_low, middle_high; `factors`: residual_factor, middle_factor.
IntegerEpilogue epilogue_of(int result, const std::vector<int>& numbers, const std::vector<float>& factors) {
    if (numbers.size() != 6 || factors.size() != 2) throw std::invalid_argument("an epilogue has 6 numbers, 2 factors");
    if (result < 0 || result >= convsmith::kIntegerResults) throw std::invalid_argument("no such result");
    require(is_code(numbers[0]) && is_code(numbers[1]) && is_code(numbers[2]) && is_code(numbers[3]), "a code");
    IntegerEpilogue e{};
    e.result = IntegerResult(result);
    e.zero = numbers[0];
    e.low = numbers[1];
    e.high = numbers[2];
    e.residual_zero = numbers[3];
    e.middle_low = numbers[4];
    e.middle_high = numbers[5];
    e.residual_factor = factors[0];
    e.middle_factor = factors[1];
    return e;
}

void convolve(const std::string& level, const std::string& name, const std::vector<int>& sizes, Array<const uint8_t> x,
              int zero, bool is_signed, Array<const uint8_t> prepared, Array<uint8_t> y, int result,
              std::optional<Array<const int32_t>> bias, std::optional<Array<const float>> factor,
              const std::vector<int>& numbers, std::optional<Array<const uint8_t>> residual, int residual_pitch,
              const std::vector<float>& factors, Array<uint8_t> workspace, int threads) {
    const Convolution v = convolution_of(sizes);
    const IntegerAlgorithm& algorithm = algorithm_of(level, name);
    IntegerEpilogue epilogue = epilogue_of(result, numbers, factors);
    const size_t element = epilogue.result == IntegerResult::codes ? 1 : 4;
    require(algorithm.supports(v), "the convolution");
    require(threads >= 1, "threads");
    require(is_code(is_signed ? zero + 128 : zero), "zero");
    require(x.shape(0) >= span(input_pixels(v), v.x_pitch, v.c), "x");
    require(y.shape(0) >= element * span(output_pixels(v), v.y_pitch, v.k), "y");
    require(reinterpret_cast<uintptr_t>(y.data()) % element == 0, "y");
    require(holds(prepared, algorithm.prepared_bytes(v)), "prepared");
    require(holds(workspace, algorithm.workspace_bytes(v, threads)), "workspace");
    require(!bias || bias->shape(0) == size_t(v.k), "bias");
    require(factor ? factor->shape(0) == size_t(v.k) : epilogue.result == IntegerResult::sums, "factor");
    require(fits_output(residual, residual_pitch, v), "residual");
    epilogue.bias = bias ? bias->data() : nullptr;
    epilogue.factor = factor ? factor->data() : nullptr;
    epilogue.residual = residual ? residual->data() : nullptr;
    epilogue.residual_pitch = residual_pitch;
    const uint8_t *from = x.data(), *weights = prepared.data();
    uint8_t *to = y.data(), *scratch = workspace.data();
    nb::gil_scoped_release release;
    algorithm.run(v, {zero, is_signed}, from, weights, to, epilogue, scratch, threads);
}

}  // namespace

void bind_integer(nb::module_& m) {
    m.def("integer_names", &integer_names, nb::arg("level"), "Names of the algorithms on 8-bit codes of a level.");
    m.def("integer_supports", &supports, nb::arg("level"), nb::arg("name"), nb::arg("sizes"));
    m.def("integer_prepared_bytes", &prepared_bytes, nb::arg("level"), nb::arg("name"), nb::arg("sizes"));
    m.def("integer_workspace_bytes", &workspace_bytes, nb::arg("level"), nb::arg("name"), nb::arg("sizes"),
          nb::arg("threads"));
    m.def("integer_prepare", &prepare, nb::arg("level"), nb::arg("name"), nb::arg("sizes"),
          nb::arg("w_kcrs").noconvert(), nb::arg("prepared").noconvert());
    m.def("integer_convolve", &convolve, nb::arg("level"), nb::arg("name"), nb::arg("sizes"), nb::arg("x").noconvert(),
          nb::arg("zero"), nb::arg("is_signed"), nb::arg("prepared").noconvert(), nb::arg("y").noconvert(),
          nb::arg("result"), nb::arg("bias").none(), nb::arg("factor").none(), nb::arg("numbers"),
          nb::arg("residual").none(), nb::arg("residual_pitch"), nb::arg("factors"), nb::arg("workspace").noconvert(),
          nb::arg("threads"), "Convolve codes x into y.");
}
