// What the kinds of steps share: reading a recipe's fields, and sharing items out over the threads.
#pragma once

#include <stdexcept>
#include <tuple>
#include <utility>

#include "operators.h"
#include "program.h"
#include "threads.h"

namespace convsmith {

using Made = std::unique_ptr<Step>;

// The fields of a recipe, one after the other.
class Fields {
  public:
    explicit Fields(const Recipe& recipe) : recipe_(recipe) {}

    long size() {
        if (size_ == recipe_.sizes.size()) fail("sizes");
        return recipe_.sizes[size_++];
    }
    int number() { return int(size()); }
    float real() {
        if (number_ == recipe_.numbers.size()) fail("numbers");
        return recipe_.numbers[number_++];
    }
    Place place() {
        if (place_ == recipe_.places.size()) fail("places");
        return recipe_.places[place_++];
    }
    Place target() {
        const Place found = place();
        if (found.space != Space::arena && found.space != Space::output)
            throw std::invalid_argument("a step of kind " + recipe_.kind + " writes to a constant");
        return found;
    }
    int threads() const { return recipe_.threads; }

    void finish() const {
        if (size_ != recipe_.sizes.size()) fail("sizes");
        if (number_ != recipe_.numbers.size()) fail("numbers");
        if (place_ != recipe_.places.size()) fail("places");
    }

  private:
    [[noreturn]] void fail(const char* what) const {
        throw std::invalid_argument("a step of kind " + recipe_.kind + " has another number of " + what);
    }

    const Recipe& recipe_;
    size_t size_ = 0, number_ = 0, place_ = 0;
};

// Calls body(first, last) for ranges of items. A few ranges a thread even out what one of them is held up by.
template <class Body>
void share(long items, int threads, const Body& body) {
    if (items <= 0) return;
    const long wanted = threads > 1 ? 4L * threads : 1, parts = items < wanted ? items : wanted;
    struct Context {
        const Body& body;
        long items, parts;
    } context{body, items, parts};
    const auto call = [](void* given, size_t part, int) {
        const Context& c = *static_cast<const Context*>(given);
        c.body(c.items * long(part) / c.parts, c.items * long(part + 1) / c.parts);
    };
    parallel_parts(size_t(parts), threads, call, &context);
}

inline Loop loop_of(Fields& fields, bool two) {
    Loop loop{};
    loop.rank = fields.number();
    if (loop.rank < 1 || loop.rank > kAxes) throw std::invalid_argument("a loop nest has 1 to 8 axes");
    for (long* values : {loop.size, loop.y, loop.a, two ? loop.b : nullptr})
        for (int axis = 0; values && axis < loop.rank; ++axis) values[axis] = fields.size();
    return loop;
}

inline long product(const Loop& loop, int axes) {
    long count = 1;
    for (int axis = 0; axis < axes; ++axis) count *= loop.size[axis];
    return count;
}

// The fields of Convolution in their order.
inline Convolution shape_of(Fields& f) {
    Convolution v{};
    for (int* field : {&v.n,         &v.c,        &v.h,          &v.w,          &v.k,       &v.r,        &v.s,
                       &v.stride_h,  &v.stride_w, &v.dilation_h, &v.dilation_w, &v.pad_top, &v.pad_left, &v.pad_bottom,
                       &v.pad_right, &v.groups,   &v.out_h,      &v.out_w,      &v.x_pitch, &v.y_pitch})
        *field = f.number();
    return v;
}

// The fields of Pooling in their order.
inline Pooling pooling_of(Fields& f) {
    Pooling p{};
    for (int* field :
         {&p.n, &p.c, &p.h, &p.w, &p.r, &p.s, &p.stride_h, &p.stride_w, &p.dilation_h, &p.dilation_w, &p.pad_top,
          &p.pad_left, &p.pad_bottom, &p.pad_right, &p.out_h, &p.out_w, &p.x_pitch, &p.y_pitch})
        *field = f.number();
    p.largest = f.number() != 0;
    p.count_padding = f.number() != 0;
    return p;
}

inline long items_of(const Pooling& p) { return long(p.n) * p.out_h; }

inline Copy copy_of(Fields& f) {
    Copy c{};
    c.loop = loop_of(f, false);
    if (c.loop.rank < 2) throw std::invalid_argument("a copy needs two axes");
    const long columns = c.loop.size[c.loop.rank - 1];
    c.block = columns < kChunk ? kChunk / (columns ? columns : 1) : 1;
    return c;
}

inline long items_of(const Copy& c) {
    const int middle = c.loop.rank - 2;
    return product(c.loop, middle) * ((c.loop.size[middle] + c.block - 1) / c.block);
}

// A step whose kernel takes some structure of sizes and operands X..., and shares out the items of a result of Y.
template <class Sizes, class Y, class... X>
class ItemStep : public Step {
  public:
    using Range = void (*)(const Sizes&, const X*..., Y*, long first, long last);

    ItemStep(Range range, const Sizes& sizes, long items, Fields& f)
        : range_(range), threads_(f.threads()), sizes_(sizes), items_(items), y_(f.target()) {
        for (Place& operand : operands_) operand = f.place();
    }

    void run(const Bases& at) const override { run_on(at, std::index_sequence_for<X...>()); }

  private:
    template <size_t... I>
    void run_on(const Bases& at, std::index_sequence<I...>) const {
        const std::tuple<const X*...> operands(at.read_as<X>(operands_[I])...);
        Y* const y = at.write_as<Y>(y_);
        share(items_, threads_,
              [&](long first, long last) { range_(sizes_, std::get<I>(operands)..., y, first, last); });
    }

    Range range_;
    int threads_;
    Sizes sizes_;
    long items_;
    Place y_, operands_[sizeof...(X)];
};

// A step of 8-bit codes; null for a kind that is none.
Made make_integer_step(const Level&, const Recipe&, Fields&);

// Several convolutions, a band of lines at a time.
Made make_band_step(const Level&, const Recipe&, Fields&);

// A step of packed signs; null for a kind that is none.
Made make_binary_step(const Level&, const Recipe&, Fields&);

}  // namespace convsmith
