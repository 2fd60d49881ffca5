// Packed signs for Python: arrays and sizes checked, the kernels called without the interpreter's lock.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <atomic>
#include <cstdint>
#include <optional>
#include <stdexcept>

#include "bind.h"
#include "bind_arrays.h"
#include "dispatch.h"
#include "threads.h"

namespace nb = nanobind;

namespace {

using convsmith::BinaryConvolution;
using convsmith::BinaryProduct;
using convsmith::BinaryTable;
using convsmith::holds;
using convsmith::Planes;
using convsmith::require;
template <typename T>
using Array = convsmith::Array<T>;
using Words = Array<const uint64_t>;
using Integers = Array<const int32_t>;
using Floats = Array<const float>;

const BinaryTable& table_of(const std::string& level) { return *convsmith::level_of(level).binary; }

bool pack_signs(const std::string& level, Floats x, size_t channels, Array<uint64_t> packed, int threads) {
    const BinaryTable& table = table_of(level);
    if (channels < 1 || channels > size_t(1) << 30) throw std::invalid_argument("channels out of range");
    const size_t rows = x.shape(0) / channels, words = (channels + 63) / 64;
    require(rows * channels == x.shape(0) && packed.shape(0) >= rows * words, "packed");
    const float* from = x.data();
    uint64_t* to = packed.data();
    const size_t step = convsmith::kPart / channels + 1;
    std::atomic<bool> valid{true};
    nb::gil_scoped_release release;
    convsmith::parallel((rows + step - 1) / step, threads, [&](size_t part) {
        const size_t begin = part * step, count = rows - begin < step ? rows - begin : step;
        if (!table.pack_signs(from + begin * channels, long(count), int(channels), long(channels), to + begin * words))
            valid = false;
    });
    return valid;
}

BinaryProduct product_of(long rows, long columns, long words, int planes) {
    if (rows < 0 || columns < 0 || words < 1 || words > 1L << 24 || planes < 0 || planes >= convsmith::kPlaneKinds)
        throw std::invalid_argument("a size of the product is out of range");
    return {rows, columns, words, Planes(planes)};
}

size_t prepared_words(const std::string& level, long columns, long words, int planes) {
    return table_of(level).prepared_words(product_of(0, columns, words, planes));
}

void prepare(const std::string& level, long columns, long words, int planes, Words b, Array<uint64_t> prepared) {
    const BinaryTable& table = table_of(level);
    const BinaryProduct p = product_of(0, columns, words, planes);
    require(b.shape(0) == size_t(columns * words * convsmith::right_planes(p.planes)), "b");
    require(holds(prepared, table.prepared_words(p) * sizeof(uint64_t)), "prepared");
    const uint64_t* from = b.data();
    uint64_t* to = prepared.data();
    nb::gil_scoped_release release;
    table.prepare(p, from, to);
}

void multiply(const std::string& level, long rows, long columns, long words, int planes, Words a, Words prepared,
              Integers base, Array<int32_t> c, int threads) {
    const BinaryTable& table = table_of(level);
    const BinaryProduct p = product_of(rows, columns, words, planes);
    require(a.shape(0) == size_t(rows * words * convsmith::left_planes(p.planes)), "a");
    require(holds(prepared, table.prepared_words(p) * sizeof(uint64_t)), "prepared");
    require(base.shape(0) == size_t(columns), "base");
    require(c.shape(0) == size_t(rows * columns), "c");
    if (threads < 1) throw std::invalid_argument("threads must be at least 1");
    const uint64_t *left = a.data(), *right = prepared.data();
    const int32_t* from = base.data();
    int32_t* to = c.data();
    nb::gil_scoped_release release;
    table.multiply(p, left, right, from, to, threads);
}

// The product of one group of a convolution: its right operand.
BinaryProduct window_product(const BinaryConvolution& v) {
    const convsmith::Convolution& s = v.sizes;
    return product_of(0, s.k / s.groups, long(s.r) * s.s * ((s.c / s.groups + 63) / 64), int(v.planes));
}

void check_outputs(const BinaryConvolution& v, const convsmith::BinaryEpilogue& e, size_t channels_given,
                   size_t y_bytes) {
    const convsmith::Convolution& s = v.sizes;
    const bool packed = e.output == convsmith::BinaryOutput::signs;
    if (packed && s.groups > 1 && s.k / s.groups % 8)
        throw std::invalid_argument("packed output of groups needs multiples of 8 channels in each");
    require(y_bytes >= output_pixels(s) * (packed ? size_t((s.k + 63) / 64) * 8 : size_t(s.k) * 4), "y");
    require(e.output == convsmith::BinaryOutput::sums || channels_given == size_t(s.k), "a value for every channel");
}

size_t workspace_bytes(const std::string& level, const std::vector<int>& sizes, int planes, int threads) {
    const BinaryConvolution v{convsmith::convolution_of(sizes), Planes(planes), true, nullptr, nullptr};
    window_product(v);
    return table_of(level).workspace_bytes(v, threads);
}

void convolve(const std::string& level, const std::vector<int>& sizes, int planes, bool zero_border, Words x,
              Words prepared, Integers base, Integers tap_sums, int output, std::optional<Floats> scale,
              std::optional<Floats> shift, std::optional<Integers> direction, std::optional<Integers> threshold,
              Array<uint8_t> y, Array<uint64_t> workspace, int threads) {
    const BinaryTable& table = table_of(level);
    const BinaryConvolution v{convsmith::convolution_of(sizes), Planes(planes), zero_border, base.data(),
                              tap_sums.data()};
    const convsmith::Convolution& s = v.sizes;
    const size_t words = size_t((s.c / s.groups + 63) / 64) * size_t(s.groups);
    if (output < 0 || output > 2) throw std::invalid_argument("no such output");
    if (threads < 1) throw std::invalid_argument("threads must be at least 1");
    const size_t prepared_size = table.prepared_words(window_product(v)) * size_t(s.groups);
    require(x.shape(0) == input_pixels(s) * words * size_t(convsmith::left_planes(v.planes)), "x");
    require(holds(prepared, prepared_size * sizeof(uint64_t)), "prepared");
    require(base.shape(0) == size_t(s.k), "base");
    require(!zero_border || tap_sums.shape(0) == size_t(s.r) * size_t(s.s) * size_t(s.k), "tap_sums");
    require(workspace.shape(0) * 8 >= table.workspace_bytes(v, threads), "workspace");
    const convsmith::BinaryEpilogue epilogue{convsmith::BinaryOutput(output), scale ? scale->data() : nullptr,
                                             shift ? shift->data() : nullptr, direction ? direction->data() : nullptr,
                                             threshold ? threshold->data() : nullptr};
    const size_t first = output == 1 && scale ? scale->shape(0) : output == 2 && direction ? direction->shape(0) : 0;
    const size_t second = output == 1 && shift ? shift->shape(0) : output == 2 && threshold ? threshold->shape(0) : 0;
    check_outputs(v, epilogue, first == second ? first : 0, y.shape(0));
    const uint64_t *from = x.data(), *weights = prepared.data();
    uint8_t* to = y.data();
    uint64_t* scratch = workspace.data();
    nb::gil_scoped_release release;
    table.convolve(v, from, weights, to, epilogue, scratch, threads);
}

}  // namespace

void bind_binary(nb::module_& m) {
    m.def("binary_pack_signs", &pack_signs, nb::arg("level"), nb::arg("x").noconvert(), nb::arg("channels"),
          nb::arg("packed").noconvert(), nb::arg("threads"));
    m.def("binary_prepared_words", &prepared_words, nb::arg("level"), nb::arg("columns"), nb::arg("words"),
          nb::arg("planes"));
    m.def("binary_prepare", &prepare, nb::arg("level"), nb::arg("columns"), nb::arg("words"), nb::arg("planes"),
          nb::arg("b").noconvert(), nb::arg("prepared").noconvert());
    m.def("binary_multiply", &multiply, nb::arg("level"), nb::arg("rows"), nb::arg("columns"), nb::arg("words"),
          nb::arg("planes"), nb::arg("a").noconvert(), nb::arg("prepared").noconvert(), nb::arg("base").noconvert(),
          nb::arg("c").noconvert(), nb::arg("threads"));
    m.def("binary_workspace_bytes", &workspace_bytes, nb::arg("level"), nb::arg("sizes"), nb::arg("planes"),
          nb::arg("threads"));
    m.def("binary_convolve", &convolve, nb::arg("level"), nb::arg("sizes"), nb::arg("planes"), nb::arg("zero_border"),
          nb::arg("x").noconvert(), nb::arg("prepared").noconvert(), nb::arg("base").noconvert(),
          nb::arg("tap_sums").noconvert(), nb::arg("output"), nb::arg("scale").noconvert().none(),
          nb::arg("shift").noconvert().none(), nb::arg("direction").noconvert().none(),
          nb::arg("threshold").noconvert().none(), nb::arg("y").noconvert(), nb::arg("workspace").noconvert(),
          nb::arg("threads"));
}
