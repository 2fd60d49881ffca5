"""Gathered products in Triton with every multiply and add rounded: the bits of `kernels.rounded_reference`, for CUDA tensors.

Numbers are float64 between roundings: products of float32 numbers are exact there, and sums are rounded to odd, after which rounding to at
most 24 bits, in any mode, with up to 24 random bits, is that of the exact sum (Boldo and Melquiond 2008). One program computes a tile of
outputs, term after term; where factors lie, and which number each random draw has, say `rounded_tables` and `rounded_random`.
"""

from __future__ import annotations

import triton
import triton.language as tl

from convsmith.precision.triton_kernels import STOCHASTIC, code_of_steps, draw_words, round_float64

# The positions of kernels.arithmetic.ORDERS.
SEQUENTIAL = tl.constexpr(0)
PAIRWISE = tl.constexpr(1)
BLOCKED = tl.constexpr(2)
KAHAN = tl.constexpr(3)


@triton.jit
def negated(x):  # type: ignore[no-untyped-def]
    """Return -x, also of zero, which a subtraction from zero would make +0."""
    return (x.to(tl.int64, bitcast=True) ^ (-9223372036854775807 - 1)).to(tl.float64, bitcast=True)


@triton.jit
def add_to_odd(a, b):  # type: ignore[no-untyped-def]
    """Return a + b in float64 rounded to odd."""
    total = a + b
    part = total - a
    error = (a - (total - part)) + (b - part)
    code = total.to(tl.int64, bitcast=True)
    outwards = (error > 0) == (code >= 0)
    inexact = ((error > 0) | (error < 0)) & ((code & 1) == 0) & ((code & 0x7FFFFFFFFFFFFFFF) < 9218868437227405312)
    return tl.where(inexact, tl.where(outwards, code + 1, code - 1), code).to(tl.float64, bitcast=True)


@triton.jit
def drawn(element, number, key, KIND: tl.constexpr, WIDTH: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return draw ``number`` of each element, as a word whose top WIDTH bits are its piece; KIND 0 is of products, 1 of sums."""
    PIECES: tl.constexpr = 128 // WIDTH
    word0, word1, word2, word3 = draw_words(element, number // PIECES, KIND, key.to(tl.int64))
    bit = number % PIECES * WIDTH
    word = tl.where(bit < 64, tl.where(bit < 32, word0, word1), tl.where(bit < 96, word2, word3))
    return (word >> (bit % 32)) << (32 - WIDTH)


@triton.jit
def round_drawn(x, element, number, key, KIND: tl.constexpr, WIDTH: tl.constexpr, SPEC: tl.constexpr):  # type: ignore[no-untyped-def]
    """Round float64 numbers, with the random bits of rounding ``number`` where the mode is stochastic."""
    if SPEC[1] == STOCHASTIC:
        result = round_float64(x, drawn(element, number, key, KIND, WIDTH), SPEC)
    else:
        result = round_float64(x, 0, SPEC)
    return result


@triton.jit
def within_period(x, SPEC: tl.constexpr):  # type: ignore[no-untyped-def]
    """Reduce numbers of 2^48 steps and more, which are whole steps, by multiples of a wrapping format's period."""
    STEP: tl.constexpr = SPEC[5]
    code = x.to(tl.int64, bitcast=True)
    size = code & 0x7FFFFFFFFFFFFFFF
    shift = STEP + 1075 - (size >> 52)
    mantissa = (size & ((1 << 52) - 1)) | (1 << 52)
    steps = (mantissa >> tl.minimum(tl.maximum(shift, 0), 63)) << tl.minimum(tl.maximum(-shift, 0), 32)
    rest = code_of_steps(steps & ((1 << SPEC[12]) - 1), 52, STEP) | (code ^ size)
    large = (size >= ((1023 + 48 + STEP) << 52)) & (size < (2047 << 52))
    return tl.where(large, rest, code).to(tl.float64, bitcast=True)


@triton.jit
def add_rounded(a, b, element, number, key, WIDTH: tl.constexpr, SPEC: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return the rounded sum."""
    if SPEC[12] > 0:
        b = within_period(b, SPEC)
    return round_drawn(add_to_odd(a, b), element, number, key, 1, WIDTH, SPEC)


@triton.jit(do_not_specialize=["m", "n", "k", "height", "width", "a_group", "b_group", "out_group", "key", "block"])
def product_kernel(  # type: ignore[no-untyped-def]
    a_ptr, b_ptr, out_ptr, scratch_ptr, a_rows, a_terms, b_columns, column_y, column_x, b_terms, term_y, term_x, out_rows, out_columns,
    m, n, k, height, width, a_group, b_group, out_group, key, block, ROWS: tl.constexpr, COLUMNS: tl.constexpr, ORDER: tl.constexpr,
    LEVELS: tl.constexpr, WIDTH: tl.constexpr, ROUND_PRODUCTS: tl.constexpr, PRODUCTS: tl.constexpr, SUMS: tl.constexpr,
    FLOAT32: tl.constexpr,
):  # fmt: skip
    """Compute a tile of one group of a gathered product (`kernels.rounded_tables`), in the order of the arithmetic.

    Pairwise sums that wait for their neighbours lie at ``scratch_ptr``, one tile for each level. FLOAT32 is the format of inner sums.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    group = tl.program_id(2).to(tl.int64)
    in_rows, in_columns = row < m, column < n
    a_at = a_ptr + group * a_group + tl.load(a_rows + row, mask=in_rows, other=0)
    b_at = b_ptr + group * b_group + tl.load(b_columns + column, mask=in_columns, other=0)
    y = tl.load(column_y + column, mask=in_columns, other=0)
    x = tl.load(column_x + column, mask=in_columns, other=0)
    place = tl.load(out_rows + row, mask=in_rows, other=0)[:, None] + tl.load(out_columns + column, mask=in_columns, other=0)[None, :]
    element = group * out_group + place
    tile = (tl.program_id(2) * tl.num_programs(1) + tl.program_id(1)) * tl.num_programs(0) + tl.program_id(0)
    waiting = scratch_ptr + tile.to(tl.int64) * (LEVELS * ROWS * COLUMNS)
    waiting += tl.arange(0, ROWS)[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    zero = tl.full((ROWS, COLUMNS), 0.0, dtype=tl.float64)
    total, carried, sums = zero, zero, 0
    for term in range(k):
        a = tl.load(a_at + tl.load(a_terms + term), mask=in_rows, other=0.0).to(tl.float64)
        now_y, now_x = y + tl.load(term_y + term), x + tl.load(term_x + term)
        inside = in_columns & (now_y >= 0) & (now_y < height) & (now_x >= 0) & (now_x < width)
        b = tl.load(b_at + tl.load(b_terms + term), mask=inside, other=0.0).to(tl.float64)
        product = a[:, None] * b[None, :]
        if ROUND_PRODUCTS:
            product = round_drawn(product, element, term, key, 0, WIDTH, PRODUCTS)
        if ORDER == SEQUENTIAL:
            total = add_rounded(total, product, element, term, key, WIDTH, SUMS)
        elif ORDER == PAIRWISE:
            level = 0
            while ((term >> level) & 1) == 1:
                earlier = tl.load(waiting + level * (ROWS * COLUMNS))
                product = add_rounded(earlier, product, element, sums, key, WIDTH, SUMS)
                level += 1
                sums += 1
            tl.store(waiting + level * (ROWS * COLUMNS), product)
            tl.debug_barrier()
        elif ORDER == BLOCKED:
            carried = round_float64(add_to_odd(carried, product), 0, FLOAT32)
            if term % block == block - 1:
                total = add_rounded(total, carried, element, term // block, key, WIDTH, SUMS)
                carried = zero
        else:
            corrected = add_rounded(negated(carried), product, element, 4 * term, key, WIDTH, SUMS)
            now = add_rounded(total, corrected, element, 4 * term + 1, key, WIDTH, SUMS)
            moved = add_rounded(now, negated(total), element, 4 * term + 2, key, WIDTH, SUMS)
            carried = add_rounded(moved, negated(corrected), element, 4 * term + 3, key, WIDTH, SUMS)
            total = now
    if ORDER == PAIRWISE:
        found = 0
        for level in range(LEVELS):
            if ((k >> level) & 1) == 1:
                earlier = tl.load(waiting + level * (ROWS * COLUMNS))
                if found == 0:
                    total = earlier
                else:
                    total = add_rounded(earlier, total, element, sums, key, WIDTH, SUMS)
                    sums += 1
                found += 1
        if sums == 0:
            total = add_rounded(zero, total, element, 0, key, WIDTH, SUMS)
    if ORDER == BLOCKED:
        if k % block != 0:
            total = add_rounded(total, carried, element, k // block, key, WIDTH, SUMS)
    code = total.to(tl.float32).to(tl.int32, bitcast=True)
    code = tl.where((code & 0x7FFFFFFF) > 0x7F800000, 0x7FC00000, code)
    tl.store(out_ptr + element, code.to(tl.float32, bitcast=True), mask=in_rows[:, None] & in_columns[None, :])
