// Fills the panels of second factors that the rounded kernels read: rows of terms, columns of outputs.
#pragma once

#include <vector>

#include "rounded_product.h"

namespace convsmith {

// The columns of one panel, as runs that lie evenly in memory.
class PanelColumns {
  public:
    PanelColumns(const GatheredProduct& product, size_t group, size_t first, int count);

    // Writes panel[terms][kTileColumns] for terms begin to end; zeros beyond the edges and in columns that are not
    // there.
    void fill(size_t begin, size_t end, float* panel) const;

  private:
    struct Run {
        int first, count;
        int64_t offset, step, y, x, x_step;
    };

    void fill_run(const Run& run, size_t term, float* row) const;

    const GatheredProduct& product_;
    const float* base_;
    int count_;
    std::vector<Run> runs_;
};

}  // namespace convsmith
