// The kinds of steps: each reads its fields once, and shares its items out over the threads when it runs.
#include <stdexcept>

#include "fields.h"
#include "operators.h"

namespace convsmith {
namespace {

long strips(long inner) { return (inner + kStrip - 1) / kStrip; }

class ConvolutionStep : public Step {
  public:
    ConvolutionStep(const ConvolutionAlgorithm& algorithm, Fields& f) : algorithm_(algorithm), threads_(f.threads()) {
        shape_ = shape_of(f);
        residual_pitch_ = f.number();
        activation_ = Activation(f.number());
        low_ = f.real();
        high_ = f.real();
        y_ = f.target();
        x_ = f.place();
        weights_ = f.place();
        bias_ = f.place();
        residual_ = f.place();
        workspace_ = f.place();
        if (!algorithm.supports(shape_))
            throw std::invalid_argument(std::string(algorithm.name) + " does not support this convolution");
    }

    void run(const Bases& at) const override {
        const Epilogue epilogue{at.read(bias_), at.read(residual_), residual_pitch_, activation_, low_, high_, false};
        algorithm_.run(shape_, at.read(x_), at.read(weights_), at.write(y_), epilogue, at.write(workspace_), threads_);
    }

  private:
    const ConvolutionAlgorithm& algorithm_;
    int threads_;
    Convolution shape_{};
    int residual_pitch_;
    Activation activation_;
    float low_, high_;
    Place y_, x_, weights_, bias_, residual_, workspace_;
};

// y[b] = x[b] w[b], w given as columns x depth: the right factor is a layer's weights that are known only now.
class ProductStep : public Step {
  public:
    ProductStep(const ConvolutionAlgorithm& algorithm, Fields& f) : algorithm_(algorithm), threads_(f.threads()) {
        batch_ = f.size();
        shape_ = Convolution{};
        shape_.n = shape_.h = shape_.r = shape_.s = shape_.groups = shape_.out_h = 1;
        shape_.stride_h = shape_.stride_w = shape_.dilation_h = shape_.dilation_w = 1;
        shape_.w = shape_.out_w = f.number();
        shape_.c = shape_.x_pitch = f.number();
        shape_.k = shape_.y_pitch = f.number();
        x_batch_ = f.size();
        w_batch_ = f.size();
        y_ = f.target();
        x_ = f.place();
        w_ = f.place();
        prepared_ = f.target();
        workspace_ = f.target();
    }

    void run(const Bases& at) const override {
        const Epilogue plain{nullptr, nullptr, 0, Activation::none, 0, 0};
        const long size = long(shape_.out_w) * shape_.k;
        float *const y = at.write(y_), *const prepared = at.write(prepared_);
        for (long b = 0; b < batch_; ++b) {
            if (b == 0 || w_batch_) algorithm_.prepare(shape_, at.read(w_) + b * w_batch_, prepared);
            algorithm_.run(shape_, at.read(x_) + b * x_batch_, prepared, y + b * size, plain, at.write(workspace_),
                           threads_);
        }
    }

  private:
    const ConvolutionAlgorithm& algorithm_;
    int threads_;
    long batch_, x_batch_, w_batch_;
    Convolution shape_;
    Place y_, x_, w_, prepared_, workspace_;
};

class PointwiseStep : public Step {
  public:
    PointwiseStep(PointwiseRange range, bool two, Fields& f) : range_(range), two_(two), threads_(f.threads()) {
        p_.loop = loop_of(f, two);
        p_.operation = f.number();
        p_.alpha = f.real();
        p_.beta = f.real();
        y_ = f.target();
        a_ = f.place();
        b_ = two ? f.place() : a_;
        const long inner = p_.loop.size[p_.loop.rank - 1];
        items_ = product(p_.loop, p_.loop.rank - 1) * ((inner + kChunk - 1) / kChunk);
    }

    void run(const Bases& at) const override {
        const float *const a = at.read(a_), *const b = at.read(b_);
        float* const y = at.write(y_);
        share(items_, threads_, [&](long first, long last) { range_(p_, a, b, y, first, last); });
    }

  private:
    PointwiseRange range_;
    bool two_;
    int threads_;
    Pointwise p_{};
    long items_;
    Place y_, a_, b_;
};

Made make_pooling(const OperatorTable& table, Fields& f) {
    const Pooling p = pooling_of(f);
    return std::make_unique<ItemStep<Pooling, float, float>>(table.pool, p, items_of(p), f);
}

Made make_copy(const OperatorTable& table, Fields& f) {
    const Copy c = copy_of(f);
    return std::make_unique<ItemStep<Copy, float, float>>(table.copy, c, items_of(c), f);
}

Made make_reduction(const OperatorTable& table, Fields& f) {
    Reduction p{};
    for (long* field : {&p.outer, &p.middle, &p.inner, &p.x_outer, &p.x_middle, &p.y_outer}) *field = f.size();
    p.operation = f.number();
    p.factor = f.real();
    return std::make_unique<ItemStep<Reduction, float, float>>(table.reduce, p, p.outer * strips(p.inner), f);
}

Made make_softmax(const OperatorTable& table, Fields& f) {
    Softmax p{};
    for (long* field : {&p.outer, &p.size, &p.inner, &p.x_outer, &p.x_step, &p.y_outer, &p.y_step}) *field = f.size();
    p.logarithm = f.number() != 0;
    return std::make_unique<ItemStep<Softmax, float, float>>(table.softmax, p, p.outer * strips(p.inner), f);
}

Made make_row_norm(const OperatorTable& table, Fields& f) {
    RowNorm p{};
    for (long* field : {&p.rows, &p.size, &p.x_pitch, &p.y_pitch}) *field = f.size();
    p.epsilon = f.real();
    return std::make_unique<ItemStep<RowNorm, float, float, float, float>>(table.row_norm, p, p.rows, f);
}

Made make_response_norm(const OperatorTable& table, Fields& f) {
    ResponseNorm p{};
    for (long* field : {&p.pixels, &p.c, &p.size, &p.x_pitch, &p.y_pitch}) *field = f.size();
    for (float* field : {&p.alpha, &p.beta, &p.bias}) *field = f.real();
    return std::make_unique<ItemStep<ResponseNorm, float, float>>(table.response_norm, p, p.pixels, f);
}

Made make_scatter(const OperatorTable& table, Fields& f) {
    Scatter p{};
    for (int* field : {&p.n, &p.h, &p.w, &p.k, &p.groups, &p.r, &p.s, &p.stride_h, &p.stride_w, &p.dilation_h,
                       &p.dilation_w, &p.pad_top, &p.pad_left, &p.out_h, &p.out_w, &p.y_pitch})
        *field = f.number();
    return std::make_unique<ItemStep<Scatter, float, float, float>>(table.scatter, p, long(p.n) * p.out_h, f);
}

Made make(const Level& level, const Recipe& recipe, Fields& f) {
    const OperatorTable& table = *level.operators;
    const std::string& kind = recipe.kind;
    if (kind == "convolution")
        return std::make_unique<ConvolutionStep>(convolution_algorithm(level, recipe.algorithm), f);
    if (kind == "band") return make_band_step(level, recipe, f);
    if (kind == "product") return std::make_unique<ProductStep>(convolution_algorithm(level, recipe.algorithm), f);
    if (kind == "unary") return std::make_unique<PointwiseStep>(table.unary, false, f);
    if (kind == "binary") return std::make_unique<PointwiseStep>(table.binary, true, f);
    if (kind == "copy") return make_copy(table, f);
    if (kind == "pooling") return make_pooling(table, f);
    if (kind == "reduction") return make_reduction(table, f);
    if (kind == "softmax") return make_softmax(table, f);
    if (kind == "row_norm") return make_row_norm(table, f);
    if (kind == "response_norm") return make_response_norm(table, f);
    if (kind == "scatter") return make_scatter(table, f);
    if (Made made = make_integer_step(level, recipe, f)) return made;
    if (Made made = make_binary_step(level, recipe, f)) return made;
    throw std::invalid_argument("no kind of step: " + kind);
}

}  // namespace

std::unique_ptr<Step> make_step(const Level& level, const Recipe& recipe) {
    if (recipe.threads < 1) throw std::invalid_argument("threads must be at least 1");
    Fields fields(recipe);
    Made made = make(level, recipe, fields);
    fields.finish();
    return made;
}

}  // namespace convsmith
