#include "rounded_product.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "rounded_gather.h"
#include "threads.h"

namespace convsmith {
namespace {

// Terms of a panel at a time: its 64 KiB stay in the second-level cache while all rows pass over them.
constexpr size_t kPanelTerms = 256;
// Rows of one part of the work: they share a panel, which so costs little beside them.
constexpr size_t kPartRows = 256;

// First factors that are copied sooner than a second thread is awake.
constexpr size_t kSmallRows = 1 << 16;

size_t slots_of(const RoundedPlan& plan, size_t terms) {
    if (plan.order == Order::sequential) return 1;
    if (plan.order != Order::pairwise) return 2;
    size_t slots = 1;
    while (terms >> slots) ++slots;
    return slots;
}

void make_whole(float* values, size_t count, float scale) {
    for (size_t i = 0; i < count; ++i) {
        const int32_t whole = int32_t(values[i] * scale);
        std::memcpy(values + i, &whole, sizeof whole);
    }
}

// First factors as [groups][row tiles][terms][kTileRows], zeros below the last row.
class Rows {
  public:
    Rows(const GatheredProduct& p, const RoundedPlan& plan, int threads)
        : tiles_((p.a_rows.size + kTileRows - 1) / kTileRows),
          terms_(p.a_terms.size),
          values_(size_t(p.groups) * tiles_ * terms_ * kTileRows) {
        parallel(size_t(p.groups) * tiles_, values_.size() < kSmallRows ? 1 : threads, [&](size_t part) {
            const size_t first = part % tiles_ * kTileRows;
            const size_t rows = std::min(p.a_rows.size - first, size_t(kTileRows));
            float* target = values_.data() + part * terms_ * kTileRows;
            const float* sources[kTileRows];
            for (size_t row = 0; row < rows; ++row)
                sources[row] = p.a + int64_t(part / tiles_) * p.a_group + p.a_rows.data[first + row];
            if (rows == kTileRows)
                for (size_t t = 0; t < terms_; ++t)
                    for (size_t row = 0; row < kTileRows; ++row)
                        target[t * kTileRows + row] = sources[row][p.a_terms.data[t]];
            else
                for (size_t row = 0; row < rows; ++row)
                    for (size_t t = 0; t < terms_; ++t) target[t * kTileRows + row] = sources[row][p.a_terms.data[t]];
            if (plan.carrier == Carrier::whole) make_whole(target, terms_ * kTileRows, plan.a_scale);
        });
    }

    const float* tile(size_t group, size_t tile, size_t term) const {
        return values_.data() + ((group * tiles_ + tile) * terms_ + term) * kTileRows;
    }

  private:
    size_t tiles_, terms_;
    std::vector<float> values_;
};

// One panel of columns and some rows: a part of the work.
class Part {
  public:
    Part(const GatheredProduct& product, const RoundedPlan& plan, RoundedRun run, const Rows& rows, size_t group,
         size_t column, size_t row, size_t row_end)
        : p_(product),
          plan_(plan),
          run_(run),
          rows_(rows),
          group_(group),
          column_(column),
          row_(row),
          row_end_(row_end),
          columns_(int(std::min(product.b_columns.size - column, size_t(kTileColumns)))) {}

    void compute() {
        const size_t terms = p_.a_terms.size, tiles = (row_end_ - row_ + kTileRows - 1) / kTileRows;
        const size_t tile_state = slots_of(plan_, terms) * kTileRows * kTileColumns;
        const PanelColumns columns(p_, group_, column_, columns_);
        std::vector<float> panel(std::min(terms, kPanelTerms) * kTileColumns + kPanelSlack);
        std::vector<double> state(tiles * tile_state);
        std::vector<RoundedStretch> stretches;
        for (size_t first = 0; first < terms; first += kPanelTerms) {
            const size_t end = std::min(terms, first + kPanelTerms);
            const size_t count = columns.fill(first, end, plan_.skips, panel.data(), stretches);
            if (plan_.carrier == Carrier::whole) make_whole(panel.data(), count * kTileColumns, plan_.b_scale);
            for (size_t tile = 0; tile < tiles; ++tile)
                add(row_ + tile * kTileRows,
                    {nullptr, panel.data(), 0, columns_, first, stretches.data(), stretches.size(), terms, end == terms,
                     nullptr, nullptr, state.data() + tile * tile_state, nullptr});
        }
    }

  private:
    // Adds to one tile of outputs; `tile` is what is common to all rows.
    void add(size_t row, RoundedTile tile) const {
        const int rows = int(std::min(row_end_ - row, size_t(kTileRows)));
        alignas(64) uint32_t low[kTileRows * kTileColumns + 16], high[kTileRows * kTileColumns + 16];
        alignas(64) float result[kTileRows * kTileColumns];
        if (plan_.sum.mode == Mode::stochastic) {
            std::fill(std::begin(low), std::end(low), 0);
            std::fill(std::begin(high), std::end(high), 0);
            for (int i = 0; i < rows; ++i)
                for (int j = 0; j < columns_; ++j) {
                    const uint64_t element = uint64_t(place(row + size_t(i), column_ + size_t(j)));
                    low[i * kTileColumns + j] = uint32_t(element);
                    high[i * kTileColumns + j] = uint32_t(element >> 32);
                }
        }
        tile.a = rows_.tile(group_, row / kTileRows, tile.first);
        tile.rows = rows;
        tile.elements_low = low, tile.elements_high = high;
        tile.result = result;
        run_(plan_, tile);
        if (!tile.last) return;
        for (int i = 0; i < rows; ++i)
            for (int j = 0; j < columns_; ++j)
                p_.out[place(row + size_t(i), column_ + size_t(j))] = result[i * kTileColumns + j];
    }

    int64_t place(size_t row, size_t column) const {
        return int64_t(group_) * p_.out_group + p_.out_rows.data[row] + p_.out_columns.data[column];
    }

    const GatheredProduct& p_;
    const RoundedPlan& plan_;
    const RoundedRun run_;
    const Rows& rows_;
    const size_t group_, column_, row_, row_end_;
    const int columns_;
};

// Whole row tiles of one part: all rows, or where there are few panels so many that all threads are busy. Each part
// fills its panel anew.
size_t rows_of_part(size_t rows, size_t panels, int threads) {
    const size_t parts = panels >= size_t(4 * threads) ? 1 : (2 * threads + panels - 1) / panels;
    const size_t tiles = (rows + kTileRows - 1) / kTileRows;
    return std::min((tiles + parts - 1) / parts * kTileRows, kPartRows);
}

}  // namespace

void multiply_rounded(const GatheredProduct& p, const RoundedArithmetic& arithmetic, const Level& level, int threads) {
    if (!p.a_rows.size || !p.b_columns.size || !p.a_terms.size || !p.groups) return;
    const RoundedPlan plan = plan_rounded(arithmetic, p, level, threads);
    const RoundedRun run = level.rounded[int(plan.carrier)];
    const Rows rows(p, plan, threads);
    const size_t panels = (p.b_columns.size + kTileColumns - 1) / kTileColumns;
    const size_t part_rows = rows_of_part(p.a_rows.size, panels * size_t(p.groups), threads);
    const size_t row_parts = (p.a_rows.size + part_rows - 1) / part_rows;
    parallel(size_t(p.groups) * panels * row_parts, threads, [&](size_t part) {
        const size_t row = part % row_parts * part_rows, column = part / row_parts % panels * kTileColumns;
        const size_t row_end = std::min(row + part_rows, p.a_rows.size);
        Part(p, plan, run, rows, part / row_parts / panels, column, row, row_end).compute();
    });
}

}  // namespace convsmith
