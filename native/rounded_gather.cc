#include "rounded_gather.h"

#include <algorithm>
#include <cstring>

namespace convsmith {

PanelColumns::PanelColumns(const GatheredProduct& product, size_t group, size_t first, int count)
    : product_(product), base_(product.b + int64_t(group) * product.b_group), count_(count), even_(true), reach_(0) {
    const int64_t *offset = product.b_columns.data + first, *y = product.column_y.data + first,
                  *x = product.column_x.data + first;
    for (int j = 0; j < count;) {
        Run run = {j, 1, offset[j], 0, y[j], x[j], 0};
        if (j + 1 < count) run.step = offset[j + 1] - offset[j], run.x_step = x[j + 1] - x[j];
        const auto goes_on = [&](int at) {
            const int next = at - j;
            const bool place = y[at] == run.y && x[at] == run.x + next * run.x_step;
            return offset[at] == run.offset + next * run.step && (place || product_.inside);
        };
        while (j + run.count < count && goes_on(j + run.count)) ++run.count;
        j += run.count;
        even_ &= run.count == 1 || run.step == 1;
        reach_ = std::max(reach_, run.offset + run.count + kPanelSlack);
        runs_.push_back(run);
    }
}

// Copies runs without a gap and without an edge. Writes up to kPanelSlack numbers beyond each, where the next run or
// row begins: they are filled later.
void PanelColumns::copy_runs(const float* source, float* row) const {
    for (const Run& run : runs_)
        for (int j = 0; j < run.count; j += kPanelSlack)
            std::memcpy(row + run.first + j, source + run.offset + j, kPanelSlack * sizeof(float));
}

// Whether all columns are outside for a term.
bool PanelColumns::is_beyond(size_t term) const {
    for (const Run& run : runs_) {
        const int64_t y = run.y + product_.term_y.data[term], x = run.x + product_.term_x.data[term];
        const int64_t last = x + (run.count - 1) * run.x_step;
        const bool left = x < 0 && last < 0, right = x >= product_.width && last >= product_.width;
        if (uint64_t(y) < uint64_t(product_.height) && !left && !right) return false;
    }
    return true;
}

void PanelColumns::fill_run(const Run& run, size_t term, float* row) const {
    float* target = row + run.first;
    const float* source = base_ + run.offset + product_.b_terms.data[term];
    const int64_t y = run.y + product_.term_y.data[term], x = run.x + product_.term_x.data[term];
    const auto inside = [&](int j) { return uint64_t(x + j * run.x_step) < uint64_t(product_.width); };
    int begin = 0, end = product_.inside || uint64_t(y) < uint64_t(product_.height) ? run.count : 0;
    // x is monotone along a run: what is inside is one stretch of it.
    if (product_.inside)
        begin = 0;
    else if (run.x_step == 1) {
        begin = int(std::min(std::max(-x, int64_t(0)), int64_t(end)));
        end = int(std::max(std::min(product_.width - x, int64_t(end)), int64_t(begin)));
    } else if (run.x_step == 0) {
        end = inside(0) ? end : 0;
    } else {
        while (begin < end && !inside(begin)) ++begin;
        while (begin < end && !inside(end - 1)) --end;
    }
    for (int j = 0; j < begin; ++j) target[j] = 0;
    if (run.step == 1)
        for (int j = begin; j < end; ++j) target[j] = source[j];
    else
        for (int j = begin; j < end; ++j) target[j] = source[j * run.step];
    for (int j = end; j < run.count; ++j) target[j] = 0;
}

size_t PanelColumns::fill(size_t begin, size_t end, bool skips, float* panel,
                          std::vector<RoundedStretch>& stretches) const {
    const float* limit = product_.b + product_.b_size;
    size_t kept = 0;
    stretches.clear();
    for (size_t t = begin; t < end; ++t) {
        if (skips && !product_.inside && is_beyond(t)) continue;
        float* row = panel + kept++ * kTileColumns;
        const float* source = base_ + product_.b_terms.data[t];
        if (product_.inside && even_ && limit - source >= reach_)
            copy_runs(source, row);
        else
            for (const Run& run : runs_) fill_run(run, t, row);
        std::fill(row + count_, row + kTileColumns, 0.0f);
        const uint32_t number = uint32_t(t - begin);
        if (stretches.empty() || stretches.back().first + stretches.back().count != number)
            stretches.push_back({number, 0});
        ++stretches.back().count;
    }
    return kept;
}

}  // namespace convsmith
