// Sums of outer products: a tile of rows times columns stays in registers while a long depth streams by. For gradients
// of weights, whose sums run over pixels.
//
// Left factors are kLeft floats for each place in depth, of which a tile takes the first few; right factors are whole
// vectors, one after the other.
#pragma once

#include "gemm.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {

// Floats of a packed left factor from one place to the next.
constexpr int kLeft = kRows <= kLanes ? kLanes : 2 * kLanes;
static_assert(kRows <= kLeft, "a tile's rows fit the packed left factor");
constexpr long kOuterTile = long(kRows) * kPanel;

// Where the left factor lies: `lines` lines of `width` places, a_step floats from place to place. Right factors follow
// each other over all of them.
struct Depth {
    int lines, width;
    long a_step, a_line;
};

// c[row][column] = (fresh ? 0 : c[row][column]) + sum over the depth of a[row] b[column]; rows of c are `vectors`
// vectors long.
using AddOuter = void (*)(const float* a, const float* b, const Depth& depth, bool fresh, float* c);

// The kernel for 1 to kRows rows and 1 to kVectors vectors of columns.
AddOuter add_outer(int rows, int vectors);

namespace {

// Rows of a left factor cut into tiles of nearly equal size.
using RowTiles = Tiles<kRows>;

// A share of the tiles and panels of one product.
struct Share {
    int first_tile, tiles, first_panel, panels;
};

// How tiles and panels are shared out: each thread packs what its share needs for itself, since what another core has
// just written comes slowly (two threads were 1.3 times as fast as one, not 1.9), and nobody waits for another.
struct Shares {
    int tiles, panels, high, wide;

    // `taps`: tiles that are added up for each packed factor.
    Shares(int tile_count, int panel_count, int taps, int threads)
        : tiles(tile_count), panels(panel_count), high(1), wide(1) {
        long least = -1;
        for (int down = 1; down <= threads && down <= tiles; ++down) {
            const int across = threads / down < panels ? threads / down : panels;
            const long most_tiles = (tiles + down - 1) / down, most_panels = (panels + across - 1) / across;
            // Cycles for each place in depth: kRows a tile and panel, about 6 to pack a vector.
            const long cost = taps * most_tiles * most_panels * kRows + 6 * (most_tiles + kVectors * most_panels);
            if (least >= 0 && cost >= least) continue;
            least = cost;
            high = down;
            wide = across;
        }
    }

    int count() const { return high * wide; }
    int most_tiles() const { return (tiles + high - 1) / high; }
    int most_panels() const { return (panels + wide - 1) / wide; }
    Share share(int index) const {
        const int i = index / wide, j = index % wide;
        const int tile = int(long(tiles) * i / high), panel = int(long(panels) * j / wide);
        return {tile, int(long(tiles) * (i + 1) / high) - tile, panel, int(long(panels) * (j + 1) / wide) - panel};
    }
};

// Writes tiles to gradients of weights: the one of tap t at tiles + t * tile_step, its rows the channels from
// `channel` on, its columns the outputs from `output` on; `channels` is those of a group.
inline void write_taps(const float* tiles, long tile_step, int taps, int channel, int rows, int channels, int vectors,
                       long output, int outputs, float* dw_kcrs) {
    for (int j = 0; j < outputs && j < vectors * kLanes; ++j)
        for (int r = 0; r < rows; ++r) {
            float* const to = dw_kcrs + ((output + j) * channels + channel + r) * taps;
            for (int tap = 0; tap < taps; ++tap) to[tap] = tiles[tap * tile_step + r * long(vectors) * kLanes + j];
        }
}

}  // namespace
}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
