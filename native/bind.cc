// The border between Python and the native core; nothing below this file knows Python.
#include <nanobind/nanobind.h>

NB_MODULE(_native, m) { m.attr("__doc__") = "Native kernels of Convsmith."; }
