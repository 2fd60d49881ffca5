// How a matrix product is cut: rows into tiles and blocks, panels of columns into chunks, for every type of element.
#pragma once

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

constexpr long round_up(long n, long unit) { return (n + unit - 1) / unit * unit; }

// Rows split into tiles of nearly equal size, at most `Most`, so that no tile is too small to hide the latency of its
// sums.
template <int Most>
struct Tiles {
    int rows, count;

    explicit Tiles(int n) : rows(n), count((n + Most - 1) / Most) {}
    int begin(int tile) const { return int(long(rows) * tile / count); }
};

// The kernels of tiles of 1 to Rows rows and 1 to Vectors vectors of columns, Kernels::kernel<rows, vectors>, in a
// table that the compiler fills.
template <class Function, int Rows, int Vectors, class Kernels>
class TileTable {
  public:
    constexpr TileTable() { fill<Rows, Vectors>(); }
    Function kernel(int rows, int vectors) const { return table_[rows - 1][vectors - 1]; }

  private:
    template <int R, int V>
    constexpr void fill() {
        table_[R - 1][V - 1] = Kernels::template kernel<R, V>;
        if constexpr (V > 1)
            fill<R, V - 1>();
        else if constexpr (R > 1)
            fill<R - 1, Vectors>();
    }

    Function table_[Rows][Vectors] = {};
};

// Parts that keep all threads busy to the end.
constexpr long wanted_parts(int threads) { return threads > 1 ? 4L * threads : 1; }

// The rows of each of `groups` products in blocks of at most `most`, more of them where these are too few for the
// threads. Below about 4 tiles of rows the panels would come too often from the third-level cache.
struct RowBlocks {
    long block_rows, blocks;

    RowBlocks(long rows, long most, int tile_rows, int groups, int threads) {
        const long wanted = wanted_parts(threads);
        blocks = (rows + most - 1) / most;
        if (blocks * groups < wanted) {
            const long useful = (rows + 4 * tile_rows - 1) / (4 * tile_rows);
            const long more = (wanted + groups - 1) / groups;
            blocks = blocks > useful ? blocks : more < useful ? more : useful;
        }
        if (blocks > threads && blocks < 8 * threads) blocks = round_up(blocks, threads);
        block_rows = (rows + blocks - 1) / blocks;
        blocks = (rows + block_rows - 1) / block_rows;
    }
};

// About `pieces` chunks of panels of equal size, but for the last.
struct Chunks {
    int chunk_panels, chunks;

    Chunks(int panels, long pieces) {
        chunks = pieces < panels ? int(pieces) : panels;
        chunk_panels = (panels + chunks - 1) / chunks;
        chunks = (panels + chunk_panels - 1) / chunk_panels;
    }
};

}  // namespace
}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
