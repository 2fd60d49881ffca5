// Rounding to block formats, for Python.
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <stdexcept>
#include <string>

#include "bind.h"
#include "dispatch.h"
#include "threads.h"

namespace nb = nanobind;

namespace {

using AnyInput = nb::ndarray<nb::ro, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Output = nb::ndarray<float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

void round_blocks(AnyInput x, Output out, const nb::tuple& constants, size_t size, size_t length, size_t inner,
                  int largest, int low, int high, bool fit, double most, uint64_t seed, uint64_t stream, int threads,
                  const std::string& level_name) {
    const convsmith::Level& level = convsmith::level_of(level_name);
    const bool wide = x.dtype() == nb::dtype<double>();
    if (!wide && x.dtype() != nb::dtype<float>()) throw std::invalid_argument("float32 or float64 arrays only");
    const size_t n = x.shape(0);
    if (out.shape(0) != n || size == 0) throw std::invalid_argument("x and out differ in size, or blocks are empty");
    if (n == 0) return;
    if (length == 0 || inner == 0 || n % (length * inner) != 0) throw std::invalid_argument("no such layout");
    const convsmith::Numbers source{const_cast<void*>(static_cast<const void*>(x.data())), wide};
    float* target = out.data();
    const convsmith::Blocks blocks{size, length, inner, largest, low, high, fit, most};
    const auto narrow_rounding = convsmith::rounding_of<float>(constants);
    const auto wide_rounding = convsmith::rounding_of<double>(constants);
    const convsmith::Key key{seed, stream};
    const size_t units = n / length * ((length + size - 1) / size);
    // Whole tiles of 64 elements where blocks are parts of them.
    size_t per_part = convsmith::kPart / size;
    if (per_part < convsmith::kBlock) per_part = convsmith::kBlock;
    nb::gil_scoped_release release;
    convsmith::parallel((units + per_part - 1) / per_part, threads, [&](size_t part) {
        const size_t begin = part * per_part, end = begin + per_part < units ? begin + per_part : units;
        level.round_blocks(source, target, begin, end, blocks, narrow_rounding, wide_rounding, key);
    });
}

}  // namespace

void bind_blocks(nb::module_& m) {
    m.def("round_blocks", &round_blocks, nb::arg("x").noconvert(), nb::arg("out").noconvert(), nb::arg("constants"),
          nb::arg("size"), nb::arg("length"), nb::arg("inner"), nb::arg("largest"), nb::arg("low"), nb::arg("high"),
          nb::arg("fit"), nb::arg("most"), nb::arg("seed"), nb::arg("stream"), nb::arg("threads"), nb::arg("level"),
          "Round x, float32 or float64, to a block format into out, which may be x.");
}
