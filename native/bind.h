// What the files of the border share, and what each adds to the module.
#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>
#include <vector>

#include "convolution.h"
#include "round.h"

namespace convsmith {

// Elements of one part of a loop over an array: 256 KiB, so that a part's data pass through the second-level cache, and
// thread hand-over costs under 1 %.
constexpr size_t kPart = size_t(1) << 16;
static_assert(kPart % kBlock == 0, "parts are whole blocks");

// From the fields of convsmith.formats.constants.Constants, in its order; for T float or double.
template <typename T>
RoundingIn<T> rounding_of(const nanobind::tuple& fields);

// From the fields of Convolution in their order; throws std::invalid_argument when they do not fit each other.
Convolution convolution_of(const std::vector<int>& sizes);

}  // namespace convsmith

void bind_binary(nanobind::module_& m);
void bind_blocks(nanobind::module_& m);
void bind_convolution(nanobind::module_& m);
void bind_gradient(nanobind::module_& m);
void bind_integer(nanobind::module_& m);
void bind_packing(nanobind::module_& m);
void bind_resample(nanobind::module_& m);
void bind_rounded(nanobind::module_& m);
void bind_rounding(nanobind::module_& m);
void bind_speed(nanobind::module_& m);
void bind_tensor(nanobind::module_& m);
void bind_program(nanobind::module_& m);
