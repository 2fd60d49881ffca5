// The border between Python and the native core; nothing below this file knows Python.
#include "bind.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <stdexcept>

#include "dispatch.h"
#include "threads.h"

namespace nb = nanobind;

namespace convsmith {

Rounding rounding_of(const nb::tuple& fields) {
    if (nb::len(fields) != 14) throw std::invalid_argument("Constants must have 14 fields");
    Rounding r;
    r.is_float = nb::cast<bool>(fields[0]);
    r.mode = Mode(nb::cast<int>(fields[1]));
    r.significand_bits = nb::cast<int>(fields[2]);
    r.flip_parity = nb::cast<bool>(fields[3]);
    r.smallest_normal = nb::cast<float>(fields[4]);
    r.step_exponent = nb::cast<int>(fields[5]);
    r.lowest = nb::cast<float>(fields[6]);
    r.highest = nb::cast<float>(fields[7]);
    r.below = nb::cast<float>(fields[8]);
    r.above = nb::cast<float>(fields[9]);
    r.minus_infinity = nb::cast<float>(fields[10]);
    r.plus_infinity = nb::cast<float>(fields[11]);
    r.wrap_bits = nb::cast<int>(fields[12]);
    r.random_bits = nb::cast<int>(fields[13]);
    return r;
}

}  // namespace convsmith

namespace {

using Input = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Output = nb::ndarray<float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

void round_f32(Input x, Output out, const nb::tuple& constants, std::optional<Input> factors, size_t inner,
               uint64_t seed, uint64_t stream, int threads, const std::string& level_name) {
    const convsmith::Level* level = convsmith::find_level(level_name);
    if (!level) throw std::invalid_argument("no such level: " + level_name);
    const size_t n = x.shape(0);
    if (out.shape(0) != n) throw std::invalid_argument("x and out differ in size");
    if (factors && (factors->shape(0) == 0 || inner == 0)) throw std::invalid_argument("empty scale");
    const convsmith::Rounding rounding = convsmith::rounding_of(constants);
    const convsmith::Scale scale{factors ? factors->data() : nullptr, factors ? factors->shape(0) : 0, inner};
    const convsmith::Key key{seed, stream};
    const float* source = x.data();
    float* target = out.data();
    nb::gil_scoped_release release;
    convsmith::parallel((n + convsmith::kPart - 1) / convsmith::kPart, threads, [&](size_t part) {
        const size_t begin = part * convsmith::kPart, end = begin + convsmith::kPart < n ? begin + convsmith::kPart : n;
        level->round(source, target, begin, end, rounding, scale, key);
    });
}

std::vector<std::string> level_names() {
    std::vector<std::string> names;
    for (const convsmith::Level& level : convsmith::levels()) names.emplace_back(level.name);
    return names;
}

}  // namespace

NB_MODULE(_native, m) {
    m.doc() = "Native kernels of Convsmith; use them through convsmith.formats.";
    m.def("levels", &level_names, "Names of the instruction sets compiled in that this processor has, slowest first.");
    m.def("round_f32", &round_f32, nb::arg("x").noconvert(), nb::arg("out").noconvert(), nb::arg("constants"),
          nb::arg("factors").none(), nb::arg("inner"), nb::arg("seed"), nb::arg("stream"), nb::arg("threads"),
          nb::arg("level"), "Round x into out, which may be x.");
    bind_convolution(m);
    bind_tensor(m);
}
