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
    const float* factor = factors_;  // of the elements of the block that was filled last
    const float* zero = zeros_;

    explicit Factors(const Scale& s)
        : s_(s), same_(s.count == 1 || (s.group ? s.inner == 1 : s.inner > 1)), block_(s.length * s.inner) {
        for (int i = 0; i < kRoom; ++i) factors_[i] = 1, zeros_[i] = 0;
    }
    Factors(const Factors&) = delete;
    Factors& operator=(const Factors&) = delete;

    inline void fill(size_t begin, size_t count) {
        if (begin != next_) seek(begin);
        next_ = begin + count;
        if (left_ > count) {
            left_ -= count;
            if (same_) {
                spread();
            } else {
                factor = s_.factors + at_;
                zero = s_.zeros ? s_.zeros + at_ : zeros_;
                at_ += count;
                // Vectors reach to the end of the block, and there may be no more factors.
                if (count < kBlock) copy(count);
            }
            return;
        }
        gather(count);
    }

  private:
    static constexpr int kRoom = int(kBlock) + kLanes;

    inline void spread() {
        factor = factors_, zero = zeros_;
        if (at_ == spread_) return;
        spread_ = at_;
        put(0, kBlock);
    }

    // Writes whole vectors, so up to kLanes - 1 places more than `count`.
    inline void put(size_t to, size_t count) {
        const F f = all(s_.factors[at_]);
        for (size_t i = 0; i < count; i += kLanes) store(factors_ + to + i, f);
        if (!s_.zeros) return;
        const F z = all(s_.zeros[at_]);
        for (size_t i = 0; i < count; i += kLanes) store(zeros_ + to + i, z);
    }

    void copy(size_t count) {
        memcpy(factors_, factor, count * sizeof(float));
        if (s_.zeros) memcpy(zeros_, zero, count * sizeof(float));
        factor = factors_, zero = zeros_, spread_ = kNone;
    }

    __attribute__((noinline)) void gather(size_t count) {
        factor = factors_, zero = zeros_, spread_ = kNone;
        for (size_t i = 0; i < count;) {
            const size_t n = left_ < count - i ? left_ : count - i;
            if (same_) {
                put(i, n);
            } else {
                memcpy(factors_ + i, s_.factors + at_, n * sizeof(float));
                if (s_.zeros) memcpy(zeros_ + i, s_.zeros + at_, n * sizeof(float));
                at_ += n;
            }
            i += n;
            left_ -= n;
            if (left_ == 0) advance();
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
    size_t next_ = kNone, at_ = 0, left_ = 0, along_ = 0, spread_ = kNone;
    float factors_[kRoom], zeros_[kRoom];
};

}  // namespace
}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
