// Timing what the processor can do at most, for Python.
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <chrono>
#include <stdexcept>
#include <string>

#include "bind.h"
#include "dispatch.h"
#include "threads.h"

namespace nb = nanobind;

namespace {

using Floats = nb::ndarray<float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using ConstFloats = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

const convsmith::Level& checked(const std::string& name, int threads) {
    if (threads < 1) throw std::invalid_argument("threads must be at least 1");
    return convsmith::level_of(name);
}

template <typename Body>
double seconds(const Body& body) {
    nb::gil_scoped_release release;
    const auto start = std::chrono::steady_clock::now();
    body();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Floating-point operations a second of `turns` rounds on each thread.
double time_multiply_adds(const std::string& name, size_t turns, int threads) {
    const convsmith::Level& level = checked(name, threads);
    const int operations = level.multiply_adds(0);
    const double elapsed =
        seconds([&] { convsmith::parallel(size_t(threads), threads, [&](size_t) { level.multiply_adds(turns); }); });
    return double(operations) * double(turns) * threads / elapsed;
}

// Bytes a second of `repeats` passes, each thread over a part of its own.
double time_triad(const std::string& name, ConstFloats x, ConstFloats z, Floats y, size_t repeats, int threads) {
    const convsmith::Level& level = checked(name, threads);
    const size_t count = y.shape(0), parts = size_t(threads);
    if (x.shape(0) != count || z.shape(0) != count) throw std::invalid_argument("the arrays differ in length");
    const float *from = x.data(), *added = z.data();
    float* to = y.data();
    const double elapsed = seconds([&] {
        convsmith::parallel(parts, threads, [&](size_t part) {
            const size_t begin = count * part / parts, end = count * (part + 1) / parts;
            for (size_t turn = 0; turn < repeats; ++turn) level.triad(from, added, to, 0.5f, begin, end);
        });
    });
    return 3.0 * sizeof(float) * double(count) * double(repeats) / elapsed;
}

}  // namespace

void bind_speed(nb::module_& m) {
    m.def("time_multiply_adds", &time_multiply_adds, nb::arg("level"), nb::arg("turns"), nb::arg("threads"));
    m.def("time_triad", &time_triad, nb::arg("level"), nb::arg("x").noconvert(), nb::arg("z").noconvert(),
          nb::arg("y").noconvert(), nb::arg("repeats"), nb::arg("threads"));
}
