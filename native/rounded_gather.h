// Fills the panels of second factors that the rounded kernels read: rows of terms, columns of outputs.
#pragma once

#include <vector>

#include "rounded_product.h"

namespace convsmith {

// Numbers that a panel must have room for after its last row.
constexpr int kPanelSlack = 8;

// The columns of one panel, as runs that lie evenly in memory.
class PanelColumns {
  public:
    PanelColumns(const GatheredProduct& product, size_t group, size_t first, int count);

    // Writes panel[kept][kTileColumns] for terms begin to end, zeros beyond the edges and in columns that are not
    // there, and which terms after `begin` they are; returns the number of rows. With `skips`, a term that is beyond
    // the edges in all columns is left out.
    size_t fill(size_t begin, size_t end, bool skips, float* panel, std::vector<RoundedStretch>& stretches) const;

  private:
    struct Run {
        int first, count;
        int64_t offset, step, y, x, x_step;
    };

    bool is_beyond(size_t term) const;
    void fill_run(const Run& run, size_t term, float* row) const;
    void copy_runs(const float* source, float* row) const;

    const GatheredProduct& product_;
    const float* base_;
    int count_;
    std::vector<Run> runs_;
    bool even_;      // neighbours in every run are neighbours in memory
    int64_t reach_;  // where the last of them is, with the slack
};

}  // namespace convsmith
