// The factors and zero points of a scale in the order of the elements, one block of 64 after the other.
#pragma once

#include "lanes.h"
#include "round.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

// Elements come in runs: of one factor for all (the indices of an axis, or groups, that lie together), or of a factor
// for each (groups along an axis with others inside of it, or the last axis itself). Consecutive blocks need no
// division.
class Factors {
  public:
    static constexpr int kVectors = int(kBlock) / kLanes;

    explicit Factors(const Scale& s)
        : s_(s), same_(s.count == 1 || (s.group ? s.inner == 1 : s.inner > 1)), block_(s.length * s.inner) {
        for (int l = 0; l < kLanes; ++l) lane_[l] = l;
    }

    // The factors and zero points of `count` elements from `begin` on; of the lanes after them any that are not zero.
    inline void fill(size_t begin, size_t count, F (&factor)[kVectors], F (&zero)[kVectors]) {
        if (begin != next_) seek(begin);
        next_ = begin + count;
        if (left_ == 0) advance();
        if (same_ && left_ >= count) {
            for (int j = 0; j < kVectors; ++j) factor[j] = same_factor(), zero[j] = same_zero();
            left_ -= count;
        } else if (same_) {
            join(count, factor, zero);
        } else if (left_ >= kBlock && count == kBlock) {
            const float *factors = s_.factors + at_, *zeros = s_.zeros ? s_.zeros + at_ : nullptr;
            for (int j = 0; j < kVectors; ++j) {
                factor[j] = load(factors + j * kLanes);
                zero[j] = zeros ? load(zeros + j * kLanes) : F{};
            }
            at_ += kBlock;
            left_ -= kBlock;
        } else {
            for (int j = 0; j < kVectors; ++j) {
                const size_t done = size_t(j * kLanes);
                read(count > done ? count - done : 0, factor[j], zero[j]);
            }
        }
    }

  private:
    inline F same_factor() const { return all(s_.factors[at_]); }
    inline F same_zero() const { return s_.zeros ? all(s_.zeros[at_]) : F{}; }

    inline void join(size_t count, F (&factor)[kVectors], F (&zero)[kVectors]) {
        size_t end = left_;  // of the run, in the block
        for (int j = 0; j < kVectors; ++j) {
            const size_t first = size_t(j * kLanes), last = first + kLanes < count ? first + kLanes : count;
            factor[j] = same_factor(), zero[j] = same_zero();
            while (end < last) {
                advance();
                const I later = lane_ >= int(end - first);
                factor[j] = later ? same_factor() : factor[j];
                zero[j] = later ? same_zero() : zero[j];
                end += left_;
            }
        }
        left_ = end - count;
    }

    inline void read(size_t count, F& factor, F& zero) {
        if (count >= kLanes && left_ >= kLanes) {
            factor = load(s_.factors + at_);
            zero = s_.zeros ? load(s_.zeros + at_) : F{};
            at_ += kLanes;
            left_ -= kLanes;
            if (left_ == 0 && count > kLanes) advance();
            return;
        }
        factor = all(1.0f), zero = F{};
        for (size_t i = 0; i < count && i < kLanes; ++i) {
            if (left_ == 0) advance();
            factor[i] = s_.factors[at_];
            if (s_.zeros) zero[i] = s_.zeros[at_];
            ++at_;
            --left_;
        }
    }

    // Goes to the run that begins where the last one ended.
    inline void advance() {
        if (!s_.group) {
            if (same_) {
                if (++at_ == s_.count) at_ = 0;
                left_ = s_.inner;
            } else {
                at_ = 0;
                left_ = s_.count;
            }
        } else if (same_) {
            ++at_;
            along_ += s_.group;
            if (along_ >= s_.length) along_ = 0;
            left_ = s_.length - along_ < s_.group ? s_.length - along_ : s_.group;
        } else {
            // The next row has the factors of this one unless another group begins.
            ++along_;
            const bool ends = along_ == s_.length;
            if (along_ % s_.group != 0 && !ends) at_ -= s_.inner;
            if (ends) along_ = 0;
            left_ = s_.inner;
        }
    }

    void seek(size_t begin) {
        if (s_.count == 1) {
            at_ = 0;
            left_ = ~size_t(0);
        } else if (!s_.group) {
            at_ = begin / s_.inner % s_.count;
            left_ = same_ ? s_.inner - begin % s_.inner : s_.count - at_;
        } else {
            const size_t groups = (s_.length + s_.group - 1) / s_.group;
            const size_t outer = begin / block_, row = begin % block_ / s_.inner, column = begin % s_.inner;
            at_ = (outer * groups + row / s_.group) * s_.inner + column;
            if (same_) {
                along_ = row / s_.group * s_.group;
                left_ = (s_.length - along_ < s_.group ? s_.length - along_ : s_.group) - row % s_.group;
            } else {
                along_ = row;
                left_ = s_.inner - column;
            }
        }
    }

    static constexpr size_t kNone = ~size_t(0);
    const Scale& s_;
    const bool same_;
    const size_t block_;  // elements along the axis and inside of it
    size_t next_ = kNone, at_ = 0, left_ = 0, along_ = 0;
    I lane_;
};

}  // namespace
}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
