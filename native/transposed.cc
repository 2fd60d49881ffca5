#include "transposed.h"

#include <algorithm>
#include <vector>

#include "threads.h"

namespace convsmith {
namespace {

constexpr size_t kRoom = 2048, kTile = 1024, kPart = size_t(1) << 16;
static_assert(kRoom % kBlock == 0, "room for whole blocks");

// One tile: columns `first` to `last` of matrix `outer`, all rows.
class Tile {
  public:
    Tile(const Level& level, const float* x, float* y, const Transposed& shape, const Rounding& rounding,
         const Key& key)
        : level_(level), x_(x), y_(y), shape_(shape), rounding_(rounding), key_(key) {}

    void round(size_t outer, size_t first, size_t last) {
        const size_t matrix = outer * shape_.rows * shape_.columns;
        x_at_ = x_ + matrix, y_at_ = y_ + matrix;
        for (size_t row = 0; row < shape_.rows; ++row) {
            const size_t begin = matrix + row * shape_.columns + first;
            add(begin, row, first, last);
            // The next row goes on where this one ends if the tile is as wide as the matrix.
            if (last - first < shape_.columns) flush();
        }
        flush();
    }

  private:
    struct Piece {
        size_t place, row, first, count;
    };

    void add(size_t index, size_t row, size_t first, size_t last) {
        while (first < last) {
            if (pieces_.empty()) {
                base_ = index - index % kBlock;
                end_ = index;
                std::fill(buffer_, buffer_ + (index - base_), 0.0f);
            }
            const size_t count = std::min(last - first, base_ + kRoom - index);
            const Piece piece{index - base_, row, first, count};
            pieces_.push_back(piece);
            const float* from = x_at_ + first * shape_.rows + row;
#pragma GCC unroll 8
            for (size_t i = 0; i < count; ++i) buffer_[piece.place + i] = from[i * shape_.rows];
            index += count, first += count, end_ = index;
            if (end_ == base_ + kRoom) flush();
        }
    }

    void flush() {
        if (pieces_.empty()) return;
        const Scale unscaled{nullptr, 0, 1, nullptr, 0, 0};
        // The kernels count from the first element of the whole, which would lie so far before the buffer.
        float* const start = reinterpret_cast<float*>(reinterpret_cast<uintptr_t>(buffer_) - base_ * sizeof(float));
        level_.round(start, start, base_, end_, rounding_, unscaled, key_);
        for (const Piece& piece : pieces_) {
            float* to = y_at_ + piece.first * shape_.rows + piece.row;
#pragma GCC unroll 8
            for (size_t i = 0; i < piece.count; ++i) to[i * shape_.rows] = buffer_[piece.place + i];
        }
        pieces_.clear();
    }

    const Level& level_;
    const float *x_, *x_at_ = nullptr;
    float *y_, *y_at_ = nullptr;
    const Transposed& shape_;
    const Rounding& rounding_;
    const Key& key_;
    size_t base_ = 0, end_ = 0;
    std::vector<Piece> pieces_;
    alignas(64) float buffer_[kRoom];
};

}  // namespace

void round_transposed(const Level& level, const float* x, float* y, const Transposed& shape, const Rounding& rounding,
                      const Key& key, int threads) {
    const size_t wide = shape.columns <= kTile ? shape.columns : kTile;
    if (shape.outer * shape.rows * wide == 0) return;
    const size_t across = (shape.columns + wide - 1) / wide, tiles = shape.outer * across;
    const size_t per_part = std::max<size_t>(1, kPart / (shape.rows * wide));
    parallel((tiles + per_part - 1) / per_part, threads, [&](size_t part) {
        Tile tile(level, x, y, shape, rounding, key);
        const size_t end = std::min(tiles, (part + 1) * per_part);
        for (size_t t = part * per_part; t < end; ++t) {
            const size_t first = t % across * wide;
            tile.round(t / across, first, std::min(shape.columns, first + wide));
        }
    });
}

}  // namespace convsmith
