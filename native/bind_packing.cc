// Packing of codes, for Python.
#include <nanobind/ndarray.h>

#include <stdexcept>

#include "bind.h"
#include "packing.h"
#include "threads.h"

namespace nb = nanobind;

namespace {

template <typename Code>
using Codes = nb::ndarray<Code, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Bytes = nb::ndarray<uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using ConstBytes = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

void check(size_t count, size_t bytes, size_t code_bytes, int bits) {
    if (bits < 1 || size_t(bits) > 8 * code_bytes || (code_bytes > 1 && size_t(bits) <= 4 * code_bytes))
        throw std::invalid_argument("codes are not of the narrowest type for their bits");
    if (bytes < (count * size_t(bits) + 7) / 8) throw std::invalid_argument("too few bytes for the codes");
}

template <typename Body>
void by_parts(size_t count, int threads, const Body& body) {
    nb::gil_scoped_release release;
    convsmith::parallel((count + convsmith::kPart - 1) / convsmith::kPart, threads, [&](size_t part) {
        const size_t begin = part * convsmith::kPart;
        body(begin, begin + convsmith::kPart < count ? begin + convsmith::kPart : count);
    });
}

template <typename Code>
void pack(Codes<const Code> codes, Bytes out, int bits, int threads) {
    check(codes.shape(0), out.shape(0), sizeof(Code), bits);
    const Code* from = codes.data();
    uint8_t* to = out.data();
    by_parts(codes.shape(0), threads, [&](size_t begin, size_t end) { convsmith::pack(from, to, begin, end, bits); });
}

template <typename Code>
void unpack(ConstBytes packed, Codes<Code> out, int bits, int threads) {
    check(out.shape(0), packed.shape(0), sizeof(Code), bits);
    const uint8_t* from = packed.data();
    Code* to = out.data();
    by_parts(out.shape(0), threads, [&](size_t begin, size_t end) { convsmith::unpack(from, to, begin, end, bits); });
}

template <typename Code>
void bind(nb::module_& m) {
    m.def("pack", &pack<Code>, nb::arg("codes").noconvert(), nb::arg("out").noconvert(), nb::arg("bits"),
          nb::arg("threads"));
    m.def("unpack", &unpack<Code>, nb::arg("packed").noconvert(), nb::arg("out").noconvert(), nb::arg("bits"),
          nb::arg("threads"));
}

}  // namespace

void bind_packing(nb::module_& m) {
    bind<uint8_t>(m);
    bind<uint16_t>(m);
    bind<uint32_t>(m);
    bind<uint64_t>(m);
}
