// Convolutions, and pooling, that follow each other, a band of lines at a time: what one of them writes still lies in
// the second-level cache when the next one reads it, and never goes to memory.
//
// The idea: Alwani, Chen, Ferdman, Milder 2016, Fused-Layer CNN Accelerators (MICRO-49). Lines that two bands need are
// computed twice, so that bands do not wait for each other.
#include <algorithm>
#include <string>

#include "fields.h"

namespace convsmith {
namespace {

constexpr int kMostStages = 4;

struct Lines {
    int begin, end;
};

struct Stage {
    const ConvolutionAlgorithm* algorithm;  // null for the largest over windows
    Convolution shape;
    int residual_pitch;
    Activation activation;
    float low, high;
    long kept;  // floats of a band's result, 0 for the last stage
    Place weights, bias, residual;
};

int first_line(const Convolution& v, Lines lines) { return lines.begin * v.stride_h - v.pad_top; }

int end_line(const Convolution& v, Lines lines) {
    return (lines.end - 1) * v.stride_h - v.pad_top + (v.r - 1) * v.dilation_h + 1;
}

// The lines of the image that lines of the result need.
Lines needed(const Convolution& v, Lines lines) {
    return {std::max(first_line(v, lines), 0), std::min(end_line(v, lines), v.h)};
}

// The convolution of these lines alone.
Convolution part_of(const Convolution& v, Lines given, Lines lines) {
    Convolution part = v;
    part.n = 1;
    part.h = given.end - given.begin;
    part.out_h = lines.end - lines.begin;
    part.pad_top = given.begin - first_line(v, lines);
    part.pad_bottom = end_line(v, lines) - given.end;
    return part;
}

Pooling pooling_of(const Convolution& v) {
    Pooling p{};
    p.n = v.n, p.c = v.c, p.h = v.h, p.w = v.w, p.r = v.r, p.s = v.s;
    p.stride_h = v.stride_h, p.stride_w = v.stride_w, p.dilation_h = v.dilation_h, p.dilation_w = v.dilation_w;
    p.pad_top = v.pad_top, p.pad_left = v.pad_left, p.pad_bottom = v.pad_bottom, p.pad_right = v.pad_right;
    p.out_h = v.out_h, p.out_w = v.out_w, p.x_pitch = v.x_pitch, p.y_pitch = v.y_pitch;
    p.largest = true;
    return p;
}

class BandStep : public Step {
  public:
    BandStep(const Level& level, const std::string& algorithms, Fields& f)
        : threads_(f.threads()), pool_(level.operators->pool) {
        count_ = f.number();
        if (count_ < 2 || count_ > kMostStages) throw std::invalid_argument("a band has 2 to 4 convolutions");
        band_lines_ = f.number();
        scratch_ = worker_ = f.size();
        y_ = f.target();
        x_ = f.place();
        size_t from = 0;
        for (int i = 0; i < count_; ++i) {
            const size_t to = std::min(algorithms.find(' ', from), algorithms.size());
            const std::string name = algorithms.substr(from, to - from);
            read_stage(stages_[i], name == "max_pool" ? nullptr : &convolution_algorithm(level, name), f);
            from = std::min(to + 1, algorithms.size());
            worker_ += stages_[i].kept;
        }
        workspace_ = f.target();
        check();
        const Convolution& last = stages_[count_ - 1].shape;
        bands_ = (last.out_h + band_lines_ - 1) / band_lines_;
    }

    void run(const Bases& at) const override {
        struct Context {
            const BandStep& step;
            const Bases& at;
        } context{*this, at};
        const auto call = [](void* given, size_t part, int worker) {
            const Context& c = *static_cast<const Context*>(given);
            c.step.run_band(c.at, long(part), worker);
        };
        parallel_parts(size_t(stages_[0].shape.n) * size_t(bands_), threads_, call, &context);
    }

  private:
    static void read_stage(Stage& stage, const ConvolutionAlgorithm* algorithm, Fields& f) {
        stage.algorithm = algorithm;
        stage.shape = shape_of(f);
        stage.residual_pitch = f.number();
        stage.activation = Activation(f.number());
        stage.kept = f.size();
        stage.low = f.real();
        stage.high = f.real();
        stage.weights = f.place();
        stage.bias = f.place();
        stage.residual = f.place();
    }

    void check() const {
        bool follow = band_lines_ > 0;
        for (int i = 0; i < count_; ++i) {
            const Stage& stage = stages_[i];
            if (stage.algorithm && !stage.algorithm->supports(stage.shape))
                throw std::invalid_argument(std::string(stage.algorithm->name) + " does not support this convolution");
            if (i + 1 == count_) break;
            const Convolution &v = stage.shape, &next = stages_[i + 1].shape;
            follow = follow && v.n == next.n && v.k == next.c && v.out_h == next.h && v.out_w == next.w &&
                     v.y_pitch == v.k && next.x_pitch == v.k && stage.residual.space == Space::none;
        }
        if (!follow) throw std::invalid_argument("the convolutions of a band do not follow each other");
    }

    void run_band(const Bases& at, long number, int worker) const {
        const long image = number / bands_;
        const int begin = int(number % bands_) * band_lines_;
        Lines lines[kMostStages + 1];
        lines[count_] = {begin, std::min(begin + band_lines_, stages_[count_ - 1].shape.out_h)};
        for (int i = count_; i-- > 0;) lines[i] = needed(stages_[i].shape, lines[i + 1]);
        const Convolution& first = stages_[0].shape;
        const float* x = at.read(x_) + (image * first.h + lines[0].begin) * first.w * first.x_pitch;
        float* const scratch = at.write(workspace_) + worker * worker_;
        float* memory = scratch + scratch_;
        for (int i = 0; i < count_; ++i) {
            const Stage& s = stages_[i];
            Epilogue epilogue{
                at.read(s.bias), at.read(s.residual), s.residual_pitch, s.activation, s.low, s.high, false};
            float* y = memory;
            if (i + 1 == count_) {
                const long pixel = (image * s.shape.out_h + begin) * s.shape.out_w;
                y = at.write(y_) + pixel * s.shape.y_pitch;
                if (epilogue.residual) epilogue.residual += pixel * s.residual_pitch;
            }
            const Convolution part = part_of(s.shape, lines[i], lines[i + 1]);
            if (s.algorithm)
                s.algorithm->run(part, x, at.read(s.weights), y, epilogue, scratch, 1);
            else
                pool_(pooling_of(part), x, y, 0, part.out_h);
            x = y;
            memory += s.kept;
        }
    }

    int threads_, count_, band_lines_, bands_;
    PoolingRange pool_;
    long scratch_, worker_;  // floats: of the algorithms, of each thread in all
    Stage stages_[kMostStages];
    Place y_, x_, workspace_;
};

}  // namespace

Made make_band_step(const Level& level, const Recipe& recipe, Fields& f) {
    return std::make_unique<BandStep>(level, recipe.algorithm, f);
}

}  // namespace convsmith
