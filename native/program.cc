// Runs the steps of a network; no memory is taken but the arena of a call that no idle one can serve.
#include "program.h"

#include <sys/mman.h>

#include <chrono>
#include <cstdlib>
#include <new>

#include "threads.h"

namespace convsmith {

const float* Bases::read(const Place& place) const {
    const float* base = nullptr;
    switch (place.space) {
        case Space::arena:
            base = arena;
            break;
        case Space::constant:
            base = constants[place.index];
            break;
        case Space::input:
            base = inputs[place.index];
            break;
        case Space::output:
            base = outputs[place.index];
            break;
        case Space::none:
            return nullptr;
    }
    return reinterpret_cast<const float*>(reinterpret_cast<const char*>(base) + place.offset);
}

// Results go to the arena or to an output; make_step refuses others.
float* Bases::write(const Place& place) const {
    float* const base = place.space == Space::output ? outputs[place.index] : arena;
    return reinterpret_cast<float*>(reinterpret_cast<char*>(base) + place.offset);
}

namespace {

constexpr size_t kHugePage = size_t(2) << 20;

// Uninitialised memory; null where there is none. Much of it asks for huge pages: with small ones a processor looks up
// the place of every few lines of an image, and where they happen to lie makes one process slower than another.
void* allocate(size_t bytes) {
    const size_t unit = bytes >= kHugePage ? kHugePage : kAlignment, whole = (bytes + unit - 1) / unit * unit;
    void* const memory = std::aligned_alloc(unit, whole);
#if defined(MADV_HUGEPAGE)
    if (memory && unit == kHugePage) madvise(memory, whole, MADV_HUGEPAGE);
#endif
    return memory;
}

}  // namespace

void Program::Free::operator()(float* memory) const { std::free(memory); }

int Program::add_constant(const float* array) {
    constants_.push_back(array);
    return int(constants_.size()) - 1;
}

Program::Arena Program::take() {
    {
        std::lock_guard<std::mutex> lock(mutex_);
        if (!idle_.empty()) {
            Arena arena = std::move(idle_.back());
            idle_.pop_back();
            return arena;
        }
    }
    Arena arena(static_cast<float*>(allocate((arena_floats_ + 1) * sizeof(float))));
    if (!arena) throw std::bad_alloc();
    return arena;
}

void Program::give_back(Arena arena) {
    std::lock_guard<std::mutex> lock(mutex_);
    idle_.push_back(std::move(arena));
}

void Program::run(const float* const* inputs, float* const* outputs, double* seconds) {
    const Patience patience;
    Arena arena = take();
    const Bases bases{arena.get(), constants_.data(), inputs, outputs};
    for (const auto& step : steps_) {
        if (!seconds) {
            step->run(bases);
            continue;
        }
        const auto start = std::chrono::steady_clock::now();
        step->run(bases);
        *seconds++ = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }
    give_back(std::move(arena));
}

}  // namespace convsmith
