// Convolutions of 8-bit codes for Python: arrays and sizes checked, the kernels called without the interpreter's lock.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <optional>
#include <stdexcept>

#include "bind.h"
#include "dispatch.h"

namespace nb = nanobind;

namespace {

using convsmith::Convolution;
using convsmith::convolution_of;
using convsmith::IntegerAlgorithm;
using convsmith::IntegerEpilogue;
using convsmith::IntegerResult;
template <class T>
using Array = nb::ndarray<T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

const convsmith::Level& level_of(const std::string& name) {
    const convsmith::Level* found = convsmith::find_level(name);
    if (!found) throw std::invalid_argument("no such level: " + name);
    return *found;
}

const IntegerAlgorithm& algorithm_of(const std::string& level, const std::string& name) {
    const IntegerAlgorithm* found = convsmith::find_integer(level_of(level), name);
    if (!found) throw std::invalid_argument("no algorithm " + name + " at level " + level);
    return *found;
}

std::vector<std::string> integer_names(const std::string& level) {
    const convsmith::IntegerTable& table = *level_of(level).integers;
    std::vector<std::string> names;
    for (int i = 0; i < table.count; ++i) names.emplace_back(table.entries[i]->name);
    return names;
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

void require(bool fits, const char* what) {
    if (!fits) throw std::invalid_argument(std::string(what) + " is too short, out of range or not aligned");
}

template <class T>
bool holds(const Array<T>& array, size_t bytes) {
    const bool aligned = reinterpret_cast<uintptr_t>(array.data()) % convsmith::kAlignment == 0;
    return bytes == 0 || (array.shape(0) * sizeof(T) >= bytes && aligned);
}

void prepare(const std::string& level, const std::string& name, const std::vector<int>& sizes,
             Array<const int8_t> w_kcrs, Array<uint8_t> prepared) {
    const Convolution v = convolution_of(sizes);
    const IntegerAlgorithm& algorithm = algorithm_of(level, name);
    require(algorithm.supports(v), "the convolution");
    require(w_kcrs.shape(0) == size_t(v.k) * size_t(v.c / v.groups) * size_t(v.r) * size_t(v.s), "w");
    require(holds(prepared, algorithm.prepared_bytes(v)), "prepared");
    const int8_t* from = w_kcrs.data();
    uint8_t* to = prepared.data();
    nb::gil_scoped_release release;
    algorithm.prepare(v, from, to);
}

// Elements from the first to beyond the last channel of an image of `pixels` pixels.
size_t span(size_t pixels, size_t pitch, size_t channels) { return pixels ? (pixels - 1) * pitch + channels : 0; }

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
    const size_t pixels = size_t(v.n) * size_t(v.out_h) * size_t(v.out_w);
    const size_t element = epilogue.result == IntegerResult::codes ? 1 : 4;
    require(algorithm.supports(v), "the convolution");
    require(threads >= 1, "threads");
    require(is_code(is_signed ? zero + 128 : zero), "zero");
    require(x.shape(0) >= span(size_t(v.n) * size_t(v.h) * size_t(v.w), size_t(v.x_pitch), size_t(v.c)), "x");
    require(y.shape(0) >= element * span(pixels, size_t(v.y_pitch), size_t(v.k)), "y");
    require(reinterpret_cast<uintptr_t>(y.data()) % element == 0, "y");
    require(holds(prepared, algorithm.prepared_bytes(v)), "prepared");
    require(holds(workspace, algorithm.workspace_bytes(v, threads)), "workspace");
    require(!bias || bias->shape(0) == size_t(v.k), "bias");
    require(factor ? factor->shape(0) == size_t(v.k) : epilogue.result == IntegerResult::sums, "factor");
    require(
        !residual || (residual_pitch >= v.k && residual->shape(0) >= span(pixels, size_t(residual_pitch), size_t(v.k))),
        "residual");
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
