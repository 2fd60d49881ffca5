// The kinds of steps of packed signs.
#include <atomic>

#include "dispatch.h"
#include "fields.h"

namespace convsmith {
namespace {

// Numbers become signs; a NaN ends the run.
class PackStep : public Step {
  public:
    PackStep(const BinaryTable& table, Fields& f) : table_(table), threads_(f.threads()) {
        rows_ = f.size();
        channels_ = f.number();
        pitch_ = f.size();
        y_ = f.target();
        x_ = f.place();
    }

    void run(const Bases& at) const override {
        const float* const x = at.read(x_);
        uint64_t* const y = at.write_as<uint64_t>(y_);
        const long words = (channels_ + 63) / 64;
        std::atomic<bool> valid{true};
        share(rows_, threads_, [&](long first, long last) {
            if (!table_.pack_signs(x + first * pitch_, last - first, channels_, pitch_, y + first * words))
                valid.store(false, std::memory_order_relaxed);
        });
        if (!valid.load()) throw std::domain_error("numbers that become signs are NaN");
    }

  private:
    const BinaryTable& table_;
    int threads_, channels_;
    long rows_, pitch_;
    Place y_, x_;
};

class BinaryConvolutionStep : public Step {
  public:
    BinaryConvolutionStep(const BinaryTable& table, Fields& f) : table_(table), threads_(f.threads()) {
        shape_.sizes = shape_of(f);
        const int planes = f.number(), output = f.number();
        shape_.zero_border = f.number() == 0;
        if (planes < 0 || planes >= kPlaneKinds || output < int(BinaryOutput::scaled) ||
            output > int(BinaryOutput::signs))
            throw std::invalid_argument("no such planes or output of a convolution of signs");
        shape_.planes = Planes(planes);
        output_ = BinaryOutput(output);
        y_ = f.target();
        for (Place* place : {&x_, &weights_, &base_, &tap_sums_, &first_, &second_, &workspace_}) *place = f.place();
    }

    void run(const Bases& at) const override {
        BinaryConvolution shape = shape_;
        shape.base = at.read_as<int32_t>(base_);
        shape.tap_sums = at.read_as<int32_t>(tap_sums_);
        BinaryEpilogue epilogue{output_, nullptr, nullptr, nullptr, nullptr};
        if (output_ == BinaryOutput::signs) {
            epilogue.direction = at.read_as<int32_t>(first_);
            epilogue.threshold = at.read_as<int32_t>(second_);
        } else {
            epilogue.scale = at.read(first_);
            epilogue.shift = at.read(second_);
        }
        table_.convolve(shape, at.read_as<uint64_t>(x_), at.read_as<uint64_t>(weights_), at.write(y_), epilogue,
                        at.write(workspace_), threads_);
    }

  private:
    const BinaryTable& table_;
    int threads_;
    BinaryConvolution shape_{};
    BinaryOutput output_;
    Place y_, x_, weights_, base_, tap_sums_, first_, second_, workspace_;
};

Made make_pooling(const BinaryTable& table, Fields& f) {
    const SignPooling p{pooling_of(f)};
    return std::make_unique<ItemStep<SignPooling, uint64_t, uint64_t, uint64_t>>(table.pool, p, items_of(p.windows), f);
}

Made make_unpacking(const BinaryTable& table, Fields& f) {
    SignRows rows{};
    rows.count = f.size();
    rows.channels = f.size();
    rows.pitch = f.size();
    return std::make_unique<ItemStep<SignRows, float, uint64_t>>(table.unpack, rows, rows.count, f);
}

}  // namespace

Made make_binary_step(const Level& level, const Recipe& recipe, Fields& f) {
    const BinaryTable& table = *level.binary;
    const std::string& kind = recipe.kind;
    if (kind == "pack_signs") return std::make_unique<PackStep>(table, f);
    if (kind == "unpack_signs") return make_unpacking(table, f);
    if (kind == "binary_convolution") return std::make_unique<BinaryConvolutionStep>(table, f);
    if (kind == "sign_pooling") return make_pooling(table, f);
    return nullptr;
}

}  // namespace convsmith
