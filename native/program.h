// A compiled network: a list of steps that run one after the other in one call.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "dispatch.h"

namespace convsmith {

// Where an array begins: in the memory of one call, or in an array given from outside, so many bytes after its start.
enum class Space : int { arena, constant, input, output, none };

struct Place {
    Space space;
    int index;
    long offset;
};

// The arrays of one call.
struct Bases {
    float* arena;
    const float* const* constants;
    const float* const* inputs;
    float* const* outputs;

    const float* read(const Place&) const;
    float* write(const Place&) const;
    template <class T>
    const T* read_as(const Place& place) const {
        return reinterpret_cast<const T*>(read(place));
    }
    template <class T>
    T* write_as(const Place& place) const {
        return reinterpret_cast<T*>(write(place));
    }
};

class Step {
  public:
    virtual ~Step() = default;
    virtual void run(const Bases&) const = 0;
};

// What a step is made of, as convsmith.compiler.steps writes it: places of result and operands, whole numbers, and
// floats, in the order of the fields of the structure it fills. `algorithm` names that of a convolution.
struct Recipe {
    std::string kind, algorithm;
    std::vector<Place> places;
    std::vector<long> sizes;
    std::vector<float> numbers;
    int threads;
};

// Throws std::invalid_argument for a kind, an algorithm or a count of fields that does not exist.
std::unique_ptr<Step> make_step(const Level&, const Recipe&);

class Program {
  public:
    Program(const Level& level, size_t arena_floats) : level_(level), arena_floats_(arena_floats) {}

    void add(const Recipe& recipe) { steps_.push_back(make_step(level_, recipe)); }

    // The caller keeps the array alive and, for convolution weights, aligned to kAlignment.
    int add_constant(const float* array);

    // May be called by several threads at a time: each call has an arena of its own, kept for later calls.
    // `seconds`, if given, has room for the time of each step.
    void run(const float* const* inputs, float* const* outputs, double* seconds = nullptr);

    size_t steps() const { return steps_.size(); }

  private:
    struct Free {
        void operator()(float* memory) const;
    };
    using Arena = std::unique_ptr<float, Free>;

    Arena take();
    void give_back(Arena);

    const Level& level_;
    size_t arena_floats_;
    std::vector<std::unique_ptr<Step>> steps_;
    std::vector<const float*> constants_;
    std::mutex mutex_;
    std::vector<Arena> idle_;
};

}  // namespace convsmith
