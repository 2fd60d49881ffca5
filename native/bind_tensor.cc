// Rounding of tensors that other libraries own, by address: constants are prepared once, a call costs little.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "bind.h"
#include "dispatch.h"
#include "threads.h"
#include "transposed.h"

namespace nb = nanobind;

namespace convsmith {
namespace {

// Below so many elements, letting other Python threads run costs more than the rounding.
constexpr size_t kKeepLock = 4096;

const Level& level_named(const std::optional<std::string>& name) {
    const Level* level = name ? find_level(*name) : default_level();
    if (!level) throw nb::key_error("no such level");
    return *level;
}

// What a call works on; addresses are those of float32 numbers that lie one after the other.
struct Call {
    const float* x;
    float* y;
    size_t size;
    Key key;
    Scale scale;

    Call(uintptr_t from, uintptr_t to, size_t n, uint64_t seed, uint64_t stream, uintptr_t factors, size_t count,
         size_t inner)
        : x(reinterpret_cast<const float*>(from)),
          y(reinterpret_cast<float*>(to)),
          size(n),
          key{seed, stream},
          scale{reinterpret_cast<const float*>(factors), count, inner, nullptr, 0, 0} {
        if (n && (!from || !to)) throw std::invalid_argument("a tensor without memory");
        if (factors && (!count || !inner)) throw std::invalid_argument("empty scale");
    }

    template <class Body>
    void by_parts(int threads, const Body& body) const {
        if (size <= kKeepLock) return parallel(size ? 1 : 0, 1, [&](size_t) { body(0, size); });
        const nb::gil_scoped_release release;
        const size_t parts = (size + kPart - 1) / kPart;
        if (threads == 0) threads = parts > 1 ? default_threads() : 1;
        parallel(parts, threads, [&](size_t part) {
            const size_t begin = part * kPart;
            body(begin, begin + kPart < size ? begin + kPart : size);
        });
    }
};

// Elements begin to end of the first of some tensors, and all of the next ones up to the last.
struct Piece {
    size_t first, last, begin, end;
};

// Returns pieces of about kPart elements: parts of large tensors, runs of small ones.
std::vector<Piece> pieces_of(const std::vector<size_t>& sizes) {
    std::vector<Piece> pieces;
    size_t filled = kPart;  // the first tensor begins a piece
    for (size_t i = 0; i < sizes.size(); ++i) {
        if (filled + sizes[i] <= kPart) {
            pieces.back().last = i;
            filled += sizes[i];
            continue;
        }
        for (size_t begin = 0; begin < sizes[i]; begin += kPart) {
            const size_t end = begin + kPart < sizes[i] ? begin + kPart : sizes[i];
            pieces.push_back({i, i, begin, end});
            filled = end - begin;
        }
        // nothing follows a part of a tensor in its piece
        if (sizes[i] > kPart) filled = kPart;
    }
    return pieces;
}

class Rounder {
  public:
    explicit Rounder(const nb::tuple& constants) : rounding_(rounding_of<float>(constants)) {}

    void round(uintptr_t x, uintptr_t y, size_t n, uint64_t seed, uint64_t stream, int threads,
               const std::optional<std::string>& level_name, uintptr_t factors, size_t count, size_t inner) const {
        const Level& level = level_named(level_name);
        const Call call(x, y, n, seed, stream, factors, count, inner);
        call.by_parts(threads, [&](size_t begin, size_t end) {
            level.round(call.x, call.y, begin, end, rounding_, call.scale, call.key);
        });
    }

    void round_many(const std::vector<uintptr_t>& x, const std::vector<uintptr_t>& y, const std::vector<size_t>& sizes,
                    uint64_t seed, const std::vector<uint64_t>& streams, int threads,
                    const std::optional<std::string>& level_name) const {
        const Level& level = level_named(level_name);
        if (x.size() != sizes.size() || y.size() != sizes.size() || streams.size() != sizes.size())
            throw std::invalid_argument("lists of different lengths");
        size_t all = 0;
        for (size_t i = 0; i < sizes.size(); ++i) {
            if (sizes[i] && (!x[i] || !y[i])) throw std::invalid_argument("a tensor without memory");
            all += sizes[i];
        }
        const std::vector<Piece> pieces = pieces_of(sizes);
        const auto round_piece = [&](size_t number) {
            const Piece& piece = pieces[number];
            for (size_t i = piece.first; i <= piece.last; ++i) {
                const bool cut = i == piece.first;
                level.round(reinterpret_cast<const float*>(x[i]), reinterpret_cast<float*>(y[i]), cut ? piece.begin : 0,
                            cut ? piece.end : sizes[i], rounding_, Scale{nullptr, 0, 1, nullptr, 0, 0},
                            Key{seed, streams[i]});
            }
        };
        if (all <= kKeepLock) return parallel(pieces.size(), 1, round_piece);
        const nb::gil_scoped_release release;
        if (threads == 0) threads = all > kPart ? default_threads() : 1;
        parallel(pieces.size(), threads, round_piece);
    }

    std::tuple<uint64_t, uint64_t, uint64_t, uint64_t> count(uintptr_t x, uintptr_t y, size_t n, uint64_t seed,
                                                             uint64_t stream, int threads,
                                                             const std::optional<std::string>& level_name,
                                                             uintptr_t factors, size_t count, size_t inner) const {
        const Level& level = level_named(level_name);
        const Call call(x, y, n, seed, stream, factors, count, inner);
        Counts total{};
        std::mutex adding;
        call.by_parts(threads, [&](size_t begin, size_t end) {
            Counts found{};
            level.count(call.x, call.y, begin, end, rounding_, call.scale, call.key, found);
            const std::lock_guard<std::mutex> lock(adding);
            total.overflows += found.overflows;
            total.underflows += found.underflows;
            total.infinities += found.infinities;
            total.nans += found.nans;
        });
        return {total.overflows, total.underflows, total.infinities, total.nans};
    }

    void round_columns(uintptr_t x, uintptr_t y, size_t outer, size_t rows, size_t columns, uint64_t seed,
                       uint64_t stream, int threads, const std::optional<std::string>& level_name) const {
        const Level& level = level_named(level_name);
        const Call call(x, y, outer * rows * columns, seed, stream, 0, 0, 1);
        const nb::gil_scoped_release release;
        if (threads == 0) threads = call.size > kPart ? default_threads() : 1;
        round_transposed(level, call.x, call.y, Transposed{outer, rows, columns}, rounding_, call.key, threads);
    }

  private:
    Rounding rounding_;
};

}  // namespace
}  // namespace convsmith

void bind_tensor(nb::module_& m) {
    m.def("default_threads", &convsmith::default_threads, "How many threads are used where nobody says.");
    using convsmith::Rounder;
    nb::class_<Rounder>(m, "Rounder", "One format, rounding and overflow, prepared for tensors by address.")
        .def(nb::init<const nb::tuple&>(), nb::arg("constants"))
        .def("round", &Rounder::round, nb::arg("x"), nb::arg("out"), nb::arg("size"), nb::arg("seed"),
             nb::arg("stream"), nb::arg("threads"), nb::arg("level").none(), nb::arg("factors") = 0,
             nb::arg("count") = 0, nb::arg("inner") = 1,
             "Round `size` float32 numbers at address x to those at out, which may be x.")
        .def("round_many", &Rounder::round_many, nb::arg("x"), nb::arg("out"), nb::arg("sizes"), nb::arg("seed"),
             nb::arg("streams"), nb::arg("threads"), nb::arg("level").none(),
             "As round, for several tensors, each with a stream of its own.")
        .def("round_columns", &Rounder::round_columns, nb::arg("x"), nb::arg("out"), nb::arg("outer"), nb::arg("rows"),
             nb::arg("columns"), nb::arg("seed"), nb::arg("stream"), nb::arg("threads"), nb::arg("level").none(),
             "Round `outer` matrices that lie column by column, with random bits counted row by row.")
        .def("count", &Rounder::count, nb::arg("x"), nb::arg("out"), nb::arg("size"), nb::arg("seed"),
             nb::arg("stream"), nb::arg("threads"), nb::arg("level").none(), nb::arg("factors") = 0,
             nb::arg("count") = 0, nb::arg("inner") = 1,
             "As round; return how many overflowed, underflowed, were infinite and were NaN.");
}
