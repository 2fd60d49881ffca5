// The border between Python and the native core; nothing below the bind files knows Python.
#include "bind.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "dispatch.h"

namespace {

std::vector<std::string> level_names() {
    std::vector<std::string> names;
    for (const convsmith::Level& level : convsmith::levels()) names.emplace_back(level.name);
    return names;
}

}  // namespace

NB_MODULE(_native, m) {
    m.doc() = "Native kernels of Convsmith; use them through convsmith.formats.";
    m.def("levels", &level_names, "Names of the instruction sets compiled in that this processor has, slowest first.");
    bind_binary(m);
    bind_blocks(m);
    bind_convolution(m);
    bind_gradient(m);
    bind_integer(m);
    bind_packing(m);
    bind_resample(m);
    bind_rounded(m);
    bind_rounding(m);
    bind_speed(m);
    bind_tensor(m);
    bind_program(m);
}
