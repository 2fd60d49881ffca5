// What the files of the border add to the module, one function each.
#pragma once

#include <nanobind/nanobind.h>

void bind_convolution(nanobind::module_& m);
