// Packing of signs and the matrix product of packed signs. Compiled once per instruction set.
#include "binary_levels.h"
#include "binary_tile.h"
#include "parts.h"

namespace convsmith {
namespace CONVSMITH_LEVEL {
namespace {

// Words of a panel that stay in the first-level cache together with the rows that meet it.
constexpr long kDepthWords = 128;
// Rows that one part multiplies with all its panels: they stay in the second-level cache.
constexpr long kPartRows = 16 * kTileRows;

long panels(long columns) { return (columns + kTileColumns - 1) / kTileColumns; }

struct Task {
    const BinaryProduct& product;
    const uint64_t *a, *prepared;
    const int32_t* base;
    int32_t* c;
    long row_blocks, column_blocks;
};

// Adds one tile to the sums: they start from their base at the first words.
void finish(const Task& task, long row, int rows, long column, bool first, const int32_t (*below)[kTileColumns]) {
    const long columns = task.product.columns, left = columns - column;
    const int count = left < kTileColumns ? int(left) : kTileColumns;
    for (int r = 0; r < rows; ++r) {
        int32_t* to = task.c + (row + r) * columns + column;
        const int32_t* from = first ? task.base + column : to;
        for (int i = 0; i < count; ++i) to[i] = from[i] - below[r][i];
    }
}

void multiply_part(void* context, size_t part, int) {
    const Task& task = *static_cast<const Task*>(context);
    const BinaryProduct& p = task.product;
    const int left = left_planes(p.planes), right = right_planes(p.planes);
    const long row_block = long(part) / task.column_blocks, column_block = long(part) % task.column_blocks;
    const long begin = p.rows * row_block / task.row_blocks, end = p.rows * (row_block + 1) / task.row_blocks;
    const long all = panels(p.columns);
    const long from = all * column_block / task.column_blocks, to = all * (column_block + 1) / task.column_blocks;
    alignas(64) int32_t below[kTileRows][kTileColumns];
    for (long word = 0; word < p.words || word == 0; word += kDepthWords) {
        const long words = p.words - word < kDepthWords ? p.words - word : kDepthWords;
        for (long panel = from; panel < to; ++panel) {
            const uint64_t* columns = task.prepared + (panel * p.words + word) * right * kTileColumns;
            for (long row = begin; row < end; row += kTileRows) {
                const int rows = end - row < kTileRows ? int(end - row) : kTileRows;
                binary_tile(p.planes, rows)(task.a + (row * p.words + word) * left, p.words * left, columns, words,
                                            below);
                finish(task, row, rows, panel * kTileColumns, word == 0, below);
            }
        }
    }
}

// The signs of up to 64 floats; `valid` becomes false where one is no number.
uint64_t signs(const float* x, int count, bool& valid) {
    uint64_t word = 0;
#if defined(__AVX512F__)
    for (int i = 0; i < count; i += 16) {
        const __m512 v = (__m512)(count - i < 16 ? load_part(x + i, count - i) : load(x + i));
        word |= uint64_t(_mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_LT_OQ)) << i;
        valid &= _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q) == 0;
    }
#elif defined(__AVX2__)
    for (int i = 0; i < count; i += 8) {
        const __m256 v = (__m256)(count - i < 8 ? load_part(x + i, count - i) : load(x + i));
        word |= uint64_t(_mm256_movemask_ps(_mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_LT_OQ))) << i;
        valid &= _mm256_movemask_ps(_mm256_cmp_ps(v, v, _CMP_UNORD_Q)) == 0;
    }
#else
    for (int i = 0; i < count; ++i) {
        word |= uint64_t(x[i] < 0) << i;
        valid &= x[i] == x[i];
    }
#endif
    return word;
}

}  // namespace

bool pack_signs(const float* x, long rows, int channels, long pitch, uint64_t* packed) {
    bool valid = true;
    for (long row = 0; row < rows; ++row, x += pitch)
        for (int i = 0; i < channels; i += 64) *packed++ = signs(x + i, channels - i < 64 ? channels - i : 64, valid);
    return valid;
}

size_t prepared_words(const BinaryProduct& p) {
    return size_t(panels(p.columns)) * kTileColumns * size_t(p.words) * size_t(right_planes(p.planes));
}

void prepare_product(const BinaryProduct& p, const uint64_t* b, uint64_t* prepared) {
    const int right = right_planes(p.planes);
    for (long panel = 0; panel < panels(p.columns); ++panel)
        for (long word = 0; word < p.words * right; ++word)
            for (long i = 0; i < kTileColumns; ++i) {
                const long column = panel * kTileColumns + i;
                *prepared++ = column < p.columns ? b[column * p.words * right + word] : 0;
            }
}

void multiply_signs(const BinaryProduct& p, const uint64_t* a, const uint64_t* prepared, const int32_t* base,
                    int32_t* c, int threads) {
    if (p.rows == 0 || p.columns == 0) return;
    const long row_blocks = (p.rows + kPartRows - 1) / kPartRows;
    // Few rows are shared out by columns.
    long column_blocks = row_blocks < 4 * threads && threads > 1 ? (4 * threads + row_blocks - 1) / row_blocks : 1;
    if (column_blocks > panels(p.columns)) column_blocks = panels(p.columns);
    Task task{p, a, prepared, base, c, row_blocks, column_blocks};
    parallel_parts(size_t(row_blocks * column_blocks), threads, multiply_part, &task);
}

}  // namespace CONVSMITH_LEVEL
}  // namespace convsmith
