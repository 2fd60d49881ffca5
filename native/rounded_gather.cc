#include "rounded_gather.h"

#include <algorithm>
#include <cstring>

namespace convsmith {

PanelColumns::PanelColumns(const GatheredProduct& product, size_t group, size_t first, int count)
    : product_(product), base_(product.b + int64_t(group) * product.b_group), count_(count) {
    const int64_t *offset = product.b_columns.data + first, *y = product.column_y.data + first,
                  *x = product.column_x.data + first;
    for (int j = 0; j < count;) {
        Run run = {j, 1, offset[j], 0, y[j], x[j], 0};
        if (j + 1 < count) run.step = offset[j + 1] - offset[j], run.x_step = x[j + 1] - x[j];
        while (j + run.count < count && y[j + run.count] == run.y &&
               offset[j + run.count] == run.offset + run.count * run.step &&
               x[j + run.count] == run.x + run.count * run.x_step)
            ++run.count;
        j += run.count;
        runs_.push_back(run);
    }
}

void PanelColumns::fill_run(const Run& run, size_t term, float* row) const {
    float* target = row + run.first;
    const float* source = base_ + run.offset + product_.b_terms.data[term];
    const int64_t y = run.y + product_.term_y.data[term], x = run.x + product_.term_x.data[term];
    const auto inside = [&](int j) { return uint64_t(x + j * run.x_step) < uint64_t(product_.width); };
    int begin = 0, end = uint64_t(y) < uint64_t(product_.height) ? run.count : 0;
    // x is monotone along a run: what is inside is one stretch of it.
    if (run.x_step == 1) {
        begin = int(std::min(std::max(-x, int64_t(0)), int64_t(end)));
        end = int(std::max(std::min(product_.width - x, int64_t(end)), int64_t(begin)));
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

void PanelColumns::fill(size_t begin, size_t end, float* panel) const {
    for (size_t t = begin; t < end; ++t, panel += kTileColumns) {
        for (const Run& run : runs_) fill_run(run, t, panel);
        std::fill(panel + count_, panel + kTileColumns, 0.0f);
    }
}

}  // namespace convsmith
