// The kinds of steps of 8-bit codes.
#include "dispatch.h"
#include "fields.h"

namespace convsmith {
namespace {

class IntegerConvolutionStep : public Step {
  public:
    IntegerConvolutionStep(const IntegerAlgorithm& algorithm, Fields& f)
        : algorithm_(algorithm), threads_(f.threads()), shape_(shape_of(f)) {
        input_.zero = f.number();
        input_.is_signed = false;
        const int result = f.number();
        if (result < 0 || result >= kIntegerResults) throw std::invalid_argument("no such result of a convolution");
        epilogue_.result = IntegerResult(result);
        for (int* field : {&epilogue_.zero, &epilogue_.low, &epilogue_.high, &epilogue_.residual_pitch,
                           &epilogue_.residual_zero, &epilogue_.middle_low, &epilogue_.middle_high})
            *field = f.number();
        epilogue_.residual_factor = f.real();
        epilogue_.middle_factor = f.real();
        y_ = f.target();
        for (Place* place : {&x_, &weights_, &bias_, &factor_, &residual_, &workspace_}) *place = f.place();
        if (!algorithm.supports(shape_))
            throw std::invalid_argument(std::string(algorithm.name) + " does not support this convolution");
    }

    void run(const Bases& at) const override {
        IntegerEpilogue epilogue = epilogue_;
        epilogue.bias = at.read_as<int32_t>(bias_);
        epilogue.factor = at.read(factor_);
        epilogue.residual = at.read_as<uint8_t>(residual_);
        algorithm_.run(shape_, input_, at.read_as<uint8_t>(x_), at.read(weights_), at.write(y_), epilogue,
                       at.write(workspace_), threads_);
    }

  private:
    const IntegerAlgorithm& algorithm_;
    int threads_;
    Convolution shape_;
    IntegerInput input_{};
    IntegerEpilogue epilogue_{};
    Place y_, x_, weights_, bias_, factor_, residual_, workspace_;
};

long chunks(long size) { return (size + kChunk - 1) / kChunk; }

// Shares out the items of a call range(first, last) on the places of one step.
class CodesStep : public Step {
  public:
    using Range = void (*)(const CodesStep&, const Bases&, long first, long last);

    CodesStep(const IntegerTable& table, Range range, Fields& f) : table(table), range_(range), threads_(f.threads()) {}

    void run(const Bases& at) const override {
        share(items, threads_, [&](long first, long last) { range_(*this, at, first, last); });
    }

    const IntegerTable& table;
    long items = 0;
    Place y, a, b;
    Quantisation quantisation{};
    IntegerSum sum{};
    IntegerPooling pooling{};
    Copy copy{};

  private:
    Range range_;
    int threads_;
};

using Codes = std::unique_ptr<CodesStep>;

void find_places(CodesStep& step, bool two, Fields& f) {
    step.y = f.target();
    step.a = f.place();
    step.b = two ? f.place() : step.a;
}

Made make_quantisation(const IntegerTable& table, bool back, Fields& f) {
    const auto to_codes = [](const CodesStep& s, const Bases& at, long first, long last) {
        s.table.quantise(s.quantisation, at.read(s.a), at.write_as<uint8_t>(s.y), first, last);
    };
    const auto to_numbers = [](const CodesStep& s, const Bases& at, long first, long last) {
        s.table.dequantise(s.quantisation, at.read_as<uint8_t>(s.a), at.write(s.y), first, last);
    };
    Codes made(new CodesStep(table, back ? CodesStep::Range(to_numbers) : CodesStep::Range(to_codes), f));
    made->quantisation.size = f.size();
    made->quantisation.zero = f.number();
    made->quantisation.scale = f.real();
    made->items = chunks(made->quantisation.size);
    find_places(*made, false, f);
    return made;
}

Made make_look_up(const IntegerTable& table, Fields& f) {
    Codes made(new CodesStep(
        table,
        [](const CodesStep& s, const Bases& at, long first, long last) {
            s.table.look_up(s.quantisation.size, at.read_as<uint8_t>(s.b), at.read_as<uint8_t>(s.a),
                            at.write_as<uint8_t>(s.y), first, last);
        },
        f));
    made->quantisation.size = f.size();
    made->items = chunks(made->quantisation.size);
    find_places(*made, true, f);
    return made;
}

Made make_sum(const IntegerTable& table, Fields& f) {
    Codes made(new CodesStep(
        table,
        [](const CodesStep& s, const Bases& at, long first, long last) {
            s.table.add(s.sum, at.read_as<uint8_t>(s.a), at.read_as<uint8_t>(s.b), at.write_as<uint8_t>(s.y), first,
                        last);
        },
        f));
    IntegerSum& s = made->sum;
    s.size = f.size();
    for (int* field : {&s.a_zero, &s.b_zero, &s.zero, &s.low, &s.high}) *field = f.number();
    s.a_factor = f.real();
    s.b_factor = f.real();
    made->items = chunks(s.size);
    find_places(*made, true, f);
    return made;
}

Made make_pooling(const IntegerTable& table, Fields& f) {
    Codes made(new CodesStep(
        table,
        [](const CodesStep& s, const Bases& at, long first, long last) {
            s.table.pool(s.pooling, at.read_as<uint8_t>(s.a), at.write_as<uint8_t>(s.y), first, last);
        },
        f));
    IntegerPooling& p = made->pooling;
    p.windows = pooling_of(f);
    for (int* field : {&p.x_zero, &p.zero, &p.low, &p.high}) *field = f.number();
    p.factor = f.real();
    made->items = long(p.windows.n) * p.windows.out_h;
    find_places(*made, false, f);
    return made;
}

Made make_copy(const IntegerTable& table, Fields& f) {
    Codes made(new CodesStep(
        table,
        [](const CodesStep& s, const Bases& at, long first, long last) {
            s.table.copy(s.copy, at.read_as<uint8_t>(s.a), at.write_as<uint8_t>(s.y), first, last);
        },
        f));
    Copy& c = made->copy;
    c.loop = loop_of(f, false);
    if (c.loop.rank < 2) throw std::invalid_argument("a copy needs two axes");
    const long rows = c.loop.size[c.loop.rank - 2], columns = c.loop.size[c.loop.rank - 1];
    c.block = columns < kChunk ? kChunk / (columns ? columns : 1) : 1;
    made->items = product(c.loop, c.loop.rank - 2) * ((rows + c.block - 1) / c.block);
    find_places(*made, false, f);
    return made;
}

}  // namespace

Made make_integer_step(const Level& level, const Recipe& recipe, Fields& f) {
    const IntegerTable& table = *level.integers;
    const std::string& kind = recipe.kind;
    if (kind == "integer_convolution") {
        const IntegerAlgorithm* found = find_integer(level, recipe.algorithm);
        if (!found) throw std::invalid_argument("no algorithm " + recipe.algorithm + " at level " + level.name);
        return std::make_unique<IntegerConvolutionStep>(*found, f);
    }
    if (kind == "quantise") return make_quantisation(table, false, f);
    if (kind == "dequantise") return make_quantisation(table, true, f);
    if (kind == "look_up") return make_look_up(table, f);
    if (kind == "integer_add") return make_sum(table, f);
    if (kind == "integer_pooling") return make_pooling(table, f);
    if (kind == "integer_copy") return make_copy(table, f);
    return nullptr;
}

}  // namespace convsmith
