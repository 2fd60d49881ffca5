// Compiled networks for Python: steps come in as plain numbers, and a run takes and fills arrays without the
// interpreter's lock.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <chrono>
#include <stdexcept>
#include <tuple>

#include "bind.h"
#include "parts.h"
#include "program.h"

namespace nb = nanobind;

namespace {

using Input = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;
using Output = nb::ndarray<float, nb::c_contig, nb::device::cpu>;
using Places = std::vector<std::tuple<int, int, long>>;

// The arrays of one call; how many numbers each must have is checked, since the steps do not.
class BoundProgram {
  public:
    BoundProgram(const std::string& level, size_t arena_floats, std::vector<size_t> input_floats,
                 std::vector<size_t> output_floats)
        : program_(convsmith::level_of(level), arena_floats),
          input_floats_(std::move(input_floats)),
          output_floats_(std::move(output_floats)) {}

    int constant(Input array) {
        const int index = program_.add_constant(array.data());
        kept_.push_back(std::move(array));
        return index;
    }

    void add(const std::string& kind, const std::string& algorithm, const Places& places,
             const std::vector<long>& sizes, const std::vector<float>& numbers, int threads) {
        convsmith::Recipe recipe{kind, algorithm, {}, sizes, numbers, threads};
        for (const auto& [space, index, offset] : places) {
            const convsmith::Place place{convsmith::Space(space), index, offset};
            const size_t known[] = {1, kept_.size(), input_floats_.size(), output_floats_.size(), 1};
            if (space < 0 || space > int(convsmith::Space::none) || index < 0 || size_t(index) >= known[space])
                throw std::invalid_argument("a place is not in any array");
            recipe.places.push_back(place);
        }
        program_.add(recipe);
    }

    void run(const std::vector<Input>& inputs, const std::vector<Output>& outputs) { timed(inputs, outputs, 1); }

    // Seconds of `repeats` runs, one after the other.
    double timed(const std::vector<Input>& inputs, const std::vector<Output>& outputs, int repeats) {
        const Pointers at(*this, inputs, outputs);
        nb::gil_scoped_release release;
        const auto start = std::chrono::steady_clock::now();
        for (int i = 0; i < repeats; ++i) program_.run(at.inputs, at.outputs);
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }

    // Seconds of each step.
    std::vector<double> profile(const std::vector<Input>& inputs, const std::vector<Output>& outputs) {
        const Pointers at(*this, inputs, outputs);
        std::vector<double> seconds(program_.steps());
        nb::gil_scoped_release release;
        program_.run(at.inputs, at.outputs, seconds.data());
        return seconds;
    }

  private:
    static constexpr size_t kMost = 32;

    struct Pointers {
        const float* inputs[kMost];
        float* outputs[kMost];

        Pointers(const BoundProgram& program, const std::vector<Input>& given, const std::vector<Output>& wanted) {
            fill(inputs, given, program.input_floats_);
            fill(outputs, wanted, program.output_floats_);
        }

        template <class Pointer, class Array>
        static void fill(Pointer* to, const std::vector<Array>& arrays, const std::vector<size_t>& floats) {
            if (arrays.size() != floats.size() || floats.size() > kMost)
                throw std::invalid_argument("another number of arrays, or more than 32");
            for (size_t i = 0; i < arrays.size(); ++i) {
                if (arrays[i].size() != floats[i]) throw std::invalid_argument("an array of another size");
                to[i] = arrays[i].data();
            }
        }
    };

    convsmith::Program program_;
    std::vector<size_t> input_floats_, output_floats_;
    std::vector<Input> kept_;
};

}  // namespace

void bind_program(nb::module_& m) {
    m.def("second_cache", [] { return convsmith::caches().second; }, "Bytes of one processor's second-level cache.");
    nb::class_<BoundProgram>(m, "Program", "A compiled network; use it through convsmith.compiler.")
        .def(nb::init<const std::string&, size_t, std::vector<size_t>, std::vector<size_t>>(), nb::arg("level"),
             nb::arg("arena_floats"), nb::arg("input_floats"), nb::arg("output_floats"))
        .def("constant", &BoundProgram::constant, nb::arg("array").noconvert())
        .def("add", &BoundProgram::add, nb::arg("kind"), nb::arg("algorithm"), nb::arg("places"), nb::arg("sizes"),
             nb::arg("numbers"), nb::arg("threads"))
        .def("run", &BoundProgram::run, nb::arg("inputs").noconvert(), nb::arg("outputs").noconvert())
        .def("timed", &BoundProgram::timed, nb::arg("inputs").noconvert(), nb::arg("outputs").noconvert(),
             nb::arg("repeats"))
        .def("profile", &BoundProgram::profile, nb::arg("inputs").noconvert(), nb::arg("outputs").noconvert());
}
