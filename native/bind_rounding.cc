// Rounding of arrays, for Python.
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <optional>
#include <stdexcept>
#include <string>

#include "bind.h"
#include "dispatch.h"
#include "threads.h"

namespace nb = nanobind;

namespace convsmith {

// The last two fields choose the arithmetic and are not needed here.
template <typename T>
RoundingIn<T> rounding_of(const nb::tuple& fields) {
    if (nb::len(fields) != 20) throw std::invalid_argument("Constants must have 20 fields");
    RoundingIn<T> r;
    r.is_float = nb::cast<bool>(fields[0]);
    r.mode = Mode(nb::cast<int>(fields[1]));
    r.significand_bits = nb::cast<int>(fields[2]);
    r.flip_parity = nb::cast<bool>(fields[3]);
    r.smallest_normal = T(nb::cast<double>(fields[4]));
    r.step_exponent = nb::cast<int>(fields[5]);
    r.lowest = T(nb::cast<double>(fields[6]));
    r.highest = T(nb::cast<double>(fields[7]));
    r.below = T(nb::cast<double>(fields[8]));
    r.above = T(nb::cast<double>(fields[9]));
    r.minus_infinity = T(nb::cast<double>(fields[10]));
    r.plus_infinity = T(nb::cast<double>(fields[11]));
    r.wrap_bits = nb::cast<int>(fields[12]);
    r.random_bits = nb::cast<int>(fields[13]);
    r.is_binary = nb::cast<bool>(fields[14]);
    r.negative_zero = nb::cast<bool>(fields[15]);
    r.zero = nb::cast<bool>(fields[16]);
    r.all_normal = nb::cast<bool>(fields[17]);
    return r;
}

template Rounding rounding_of<float>(const nb::tuple&);
template WideRounding rounding_of<double>(const nb::tuple&);

namespace {

using Input = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Output = nb::ndarray<float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using AnyInput = nb::ndarray<nb::ro, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using AnyOutput = nb::ndarray<nb::ndim<1>, nb::c_contig, nb::device::cpu>;

Scale scale_of(const std::optional<Input>& factors, const std::optional<Input>& zeros, size_t inner, size_t length,
               size_t group, size_t n) {
    if (!factors || n == 0) return {nullptr, 0, inner, nullptr, 0, 0};
    const size_t count = factors->shape(0);
    if (count == 0 || inner == 0) throw std::invalid_argument("empty scale");
    if (zeros && zeros->shape(0) != count) throw std::invalid_argument("one zero point for each factor");
    if (group && (length == 0 || n % (length * inner) || (length + group - 1) / group * (n / length) != count))
        throw std::invalid_argument("one factor for each group");
    return {factors->data(), count, inner, zeros ? zeros->data() : nullptr, length, group};
}

template <typename Body>
void by_parts(size_t n, int threads, const Body& body) {
    nb::gil_scoped_release release;
    parallel((n + kPart - 1) / kPart, threads, [&](size_t part) {
        const size_t begin = part * kPart;
        body(begin, begin + kPart < n ? begin + kPart : n);
    });
}

void round_f32(Input x, Output out, const nb::tuple& constants, std::optional<Input> factors, size_t inner,
               uint64_t seed, uint64_t stream, int threads, const std::string& level_name, std::optional<Input> zeros,
               size_t length, size_t group) {
    const Level& level = level_of(level_name);
    const size_t n = x.shape(0);
    if (out.shape(0) != n) throw std::invalid_argument("x and out differ in size");
    const Rounding rounding = rounding_of<float>(constants);
    const Scale scale = scale_of(factors, zeros, inner, length, group, n);
    const Key key{seed, stream};
    const float* source = x.data();
    float* target = out.data();
    by_parts(n, threads,
             [&](size_t begin, size_t end) { level.round(source, target, begin, end, rounding, scale, key); });
}

template <typename Array>
Numbers numbers_of(const Array& array) {
    const bool wide = array.dtype() == nb::dtype<double>();
    if (!wide && array.dtype() != nb::dtype<float>()) throw std::invalid_argument("float32 or float64 arrays only");
    return {const_cast<void*>(static_cast<const void*>(array.data())), wide};
}

void round_wide(AnyInput x, AnyOutput out, const nb::tuple& constants, std::optional<Input> factors, size_t inner,
                uint64_t seed, uint64_t stream, int threads, const std::string& level_name, std::optional<Input> zeros,
                size_t length, size_t group) {
    const Level& level = level_of(level_name);
    const size_t n = x.shape(0);
    if (out.shape(0) != n) throw std::invalid_argument("x and out differ in size");
    const WideRounding rounding = rounding_of<double>(constants);
    const Scale scale = scale_of(factors, zeros, inner, length, group, n);
    const Key key{seed, stream};
    const Numbers source = numbers_of(x), target = numbers_of(out);
    by_parts(n, threads,
             [&](size_t begin, size_t end) { level.round_wide(source, target, begin, end, rounding, scale, key); });
}

}  // namespace

}  // namespace convsmith

void bind_rounding(nb::module_& m) {
    m.def("round_f32", &convsmith::round_f32, nb::arg("x").noconvert(), nb::arg("out").noconvert(),
          nb::arg("constants"), nb::arg("factors").none(), nb::arg("inner"), nb::arg("seed"), nb::arg("stream"),
          nb::arg("threads"), nb::arg("level"), nb::arg("zeros").none() = nb::none(), nb::arg("length") = 0,
          nb::arg("group") = 0, "Round x into out, which may be x.");
    m.def("round_wide", &convsmith::round_wide, nb::arg("x").noconvert(), nb::arg("out").noconvert(),
          nb::arg("constants"), nb::arg("factors").none(), nb::arg("inner"), nb::arg("seed"), nb::arg("stream"),
          nb::arg("threads"), nb::arg("level"), nb::arg("zeros").none() = nb::none(), nb::arg("length") = 0,
          nb::arg("group") = 0,
          "Round x into out in double arithmetic; each is float32 or float64, and out may be x where they are alike.");
}
