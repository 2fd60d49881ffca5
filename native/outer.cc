// The micro-kernels of outer.h. Compiled once per instruction set.
#include "outer.h"

#include "tile_sums.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

template <int R, int V>
void add(const float* a, const float* b, const Depth& depth, bool fresh, float* c) {
    F sums[R][V] = {};
    if (!fresh) load_tile(sums, c, V * kLanes);
    const long step = depth.a_step;
    for (int line = 0; line < depth.lines; ++line, a += depth.a_line) {
        const float* at = a;
        for (int place = 0; place < depth.width; ++place, at += step, b += V * kLanes)
            add_products(sums, [at](int r) { return at[r]; }, b);
    }
    store_tile(c, V * kLanes, sums);
}

struct Kernels {
    template <int R, int V>
    static constexpr AddOuter kernel = add<R, V>;
};

constexpr TileTable<AddOuter, kRows, kVectors, Kernels> tiles;

}  // namespace

AddOuter add_outer(int rows, int vectors) { return tiles.kernel(rows, vectors); }

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
