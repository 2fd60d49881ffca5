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

template <class Y, class X>
Made make_quantisation(void (*range)(const Quantisation&, const X*, Y*, long, long), Fields& f) {
    Quantisation q{};
    q.size = f.size();
    q.zero = f.number();
    q.scale = f.real();
    return std::make_unique<ItemStep<Quantisation, Y, X>>(range, q, chunks(q.size), f);
}

Made make_look_up(const IntegerTable& table, Fields& f) {
    const LookUp l{f.size()};
    return std::make_unique<ItemStep<LookUp, uint8_t, uint8_t, uint8_t>>(table.look_up, l, chunks(l.size), f);
}

Made make_sum(const IntegerTable& table, Fields& f) {
    IntegerSum s{};
    s.size = f.size();
    for (int* field : {&s.a_zero, &s.b_zero, &s.zero, &s.low, &s.high}) *field = f.number();
    s.a_factor = f.real();
    s.b_factor = f.real();
    return std::make_unique<ItemStep<IntegerSum, uint8_t, uint8_t, uint8_t>>(table.add, s, chunks(s.size), f);
}

Made make_pooling(const IntegerTable& table, Fields& f) {
    IntegerPooling p{};
    p.windows = pooling_of(f);
    for (int* field : {&p.x_zero, &p.zero, &p.low, &p.high}) *field = f.number();
    p.factor = f.real();
    return std::make_unique<ItemStep<IntegerPooling, uint8_t, uint8_t>>(table.pool, p, items_of(p.windows), f);
}

Made make_copy(const IntegerTable& table, Fields& f) {
    const Copy c = copy_of(f);
    return std::make_unique<ItemStep<Copy, uint8_t, uint8_t>>(table.copy, c, items_of(c), f);
}

}  // namespace

Made make_integer_step(const Level& level, const Recipe& recipe, Fields& f) {
    const IntegerTable& table = *level.integers;
    const std::string& kind = recipe.kind;
    if (kind == "integer_convolution")
        return std::make_unique<IntegerConvolutionStep>(integer_algorithm(level, recipe.algorithm), f);
    if (kind == "quantise") return make_quantisation(table.quantise, f);
    if (kind == "dequantise") return make_quantisation(table.dequantise, f);
    if (kind == "look_up") return make_look_up(table, f);
    if (kind == "integer_add") return make_sum(table, f);
    if (kind == "integer_pooling") return make_pooling(table, f);
    if (kind == "integer_copy") return make_copy(table, f);
    return nullptr;
}

}  // namespace convsmith
