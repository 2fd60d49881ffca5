"""Rounding in Triton: float32 tensors on CUDA, and the matrix product whose every multiply and add is rounded.

A magnitude is an integer here, its code in float32 (23 fraction bits) or float64 (52), and everything but the scale and the exact products
and sums is integer arithmetic: no flush of subnormal numbers, contraction or approximate division can change a bit. The constants of a
format are compiled in. This file is imported when a CUDA tensor comes; with TRITON_INTERPRET=1 set before, it also runs on processors,
slowly, which is how it is tested.
"""

from __future__ import annotations

import triton
import triton.language as tl

# The positions of formats.modes.ROUNDINGS.
NEAREST_EVEN = tl.constexpr(1)
NEAREST_AWAY = tl.constexpr(2)
UP = tl.constexpr(3)
DOWN = tl.constexpr(4)
TO_ODD = tl.constexpr(5)
STOCHASTIC = tl.constexpr(6)


@triton.jit
def draw_words(counter, seed, stream):  # type: ignore[no-untyped-def]
    """Return the four words of Philox4x32-7 for 64-bit counters."""
    c0, c1 = counter.to(tl.uint32), (counter >> 32).to(tl.uint32)
    c2, c3 = (counter * 0 + stream).to(tl.uint32), ((counter * 0 + stream) >> 32).to(tl.uint32)
    k0, k1 = seed.to(tl.uint32), (seed >> 32).to(tl.uint32)
    for _ in tl.static_range(7):
        high0, low0 = tl.umulhi(c0, 0xD2511F53), c0 * 0xD2511F53
        high1, low1 = tl.umulhi(c2, 0xCD9E8D57), c2 * 0xCD9E8D57
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = k0 + 0x9E3779B9, k1 + 0xBB67AE85
    return c0, c1, c2, c3


@triton.jit
def goes_away(rest, half, odd, negative, word, shift, MODE: tl.constexpr, RANDOM_BITS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Tell whether a magnitude of some whole steps and a rest goes up to the next step; half is half a step."""
    if MODE == NEAREST_EVEN:
        away = (rest > 0) & ((rest > half) | ((rest == half) & (odd == 1)))
    elif MODE == NEAREST_AWAY:
        away = (rest > 0) & (rest >= half)
    elif MODE == UP:
        away = (rest > 0) & (negative == 0)
    elif MODE == DOWN:
        away = (rest > 0) & (negative != 0)
    elif MODE == TO_ODD:
        away = (rest > 0) & (odd == 0)
    elif MODE == STOCHASTIC:
        drawn = (word >> (32 - RANDOM_BITS)) << (32 - RANDOM_BITS)
        share = (rest.to(tl.int64) << 32) >> tl.minimum(tl.maximum(shift, 0), 63).to(tl.int64)
        away = share + drawn.to(tl.int64) >= 4294967296
    else:
        away = rest < 0
    return away


@triton.jit
def code_of_steps(count, M: tl.constexpr, STEP: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return the code of count steps of 2^STEP, which the carrier holds exactly."""
    if M == 52:
        code = count.to(tl.float64).to(tl.int64, bitcast=True)
    else:
        code = count.to(tl.float32).to(tl.int32, bitcast=True)
    code = tl.where(count == 0, 0, code + STEP * (1 << M))
    if M == 23:
        if STEP < -126:
            code = tl.where(count < (1 << (-126 - STEP)), count << (STEP + 149), code)
    return code


@triton.jit
def round_size(  # type: ignore[no-untyped-def]
    size, negative, word, M: tl.constexpr, IS_FLOAT: tl.constexpr, MODE: tl.constexpr, KEPT: tl.constexpr, FLIP: tl.constexpr,
    NORMAL: tl.constexpr, STEP: tl.constexpr, LOWEST: tl.constexpr, HIGHEST: tl.constexpr, BELOW: tl.constexpr, ABOVE: tl.constexpr,
    MINUS: tl.constexpr, PLUS: tl.constexpr, WRAP_BITS: tl.constexpr, LOW_STEPS: tl.constexpr, RANDOM_BITS: tl.constexpr,
):  # fmt: skip
    """Return the code of a rounded magnitude, with LOWEST to PLUS the codes of constants.Constants without their signs, and its sign.

    M is the number of fraction bits of the codes, KEPT that of the format. A float's magnitude from NORMAL up keeps KEPT bits; smaller
    ones, and everything in fixed point, are rounded to steps of 2^STEP.
    """
    field = size >> M
    mantissa = size & ((1 << M) - 1)
    mantissa = tl.where(field > 0, mantissa | (1 << M), mantissa)
    infinity: tl.constexpr = (2047 << 52) if M == 52 else (255 << 23)
    shift = STEP + ((1023 if M == 52 else 127) + M) - tl.maximum(field, 1)
    normal = size >= NORMAL
    if IS_FLOAT:
        shift = tl.where(normal, M - KEPT, shift)
    # From M + 2 bits up nothing but the rest is left, less than half a step.
    cut = tl.minimum(tl.maximum(shift, 0), M + 2)
    whole = mantissa >> cut
    rest = mantissa - (whole << cut)
    half = (((size & 0) + 1) << cut) >> 1
    odd = whole & 1
    if KEPT == 0:
        if IS_FLOAT:
            odd = tl.where(normal, (field ^ FLIP) & 1, odd)
    away = goes_away(rest, half, odd, negative, word, shift, MODE, RANDOM_BITS).to(size.dtype)
    count = whole + away
    if IS_FLOAT:
        code = tl.where(normal, ((size >> cut) + away) << cut, code_of_steps(count, M, STEP))
    else:
        code = tl.where(shift <= 0, size, code_of_steps(count, M, STEP))
    if WRAP_BITS > 0:
        # Bits that leave at the top are multiples of the period.
        steps = count.to(tl.int64) << tl.minimum(tl.maximum(-shift, 0), 32).to(tl.int64)
        steps = tl.where(negative != 0, -steps, steps)
        steps = ((steps - LOW_STEPS) & ((1 << WRAP_BITS) - 1)) + LOW_STEPS
        negative = tl.where(size >= infinity, negative, (steps < 0).to(negative.dtype))
        code = code_of_steps(tl.where(steps < 0, -steps, steps).to(size.dtype), M, STEP)
        code = tl.where(size >= infinity, infinity + (1 << (M - 1)), code)
    else:
        code = tl.where(code > tl.where(negative != 0, LOWEST, HIGHEST), tl.where(negative != 0, BELOW, ABOVE), code)
        code = tl.where(size == infinity, tl.where(negative != 0, MINUS, PLUS), code)
        code = tl.where(size > infinity, infinity + (1 << (M - 1)), code)
    if not IS_FLOAT:
        negative = tl.where(code == 0, 0, negative)
    return code, negative


@triton.jit
def round_float32(  # type: ignore[no-untyped-def]
    x, word, IS_FLOAT: tl.constexpr, MODE: tl.constexpr, KEPT: tl.constexpr, FLIP: tl.constexpr, NORMAL: tl.constexpr,
    STEP: tl.constexpr, LOWEST: tl.constexpr, HIGHEST: tl.constexpr, BELOW: tl.constexpr, ABOVE: tl.constexpr, MINUS: tl.constexpr,
    PLUS: tl.constexpr, WRAP_BITS: tl.constexpr, LOW_STEPS: tl.constexpr, RANDOM_BITS: tl.constexpr,
):  # fmt: skip
    """Return rounded float32 numbers."""
    code = x.to(tl.int32, bitcast=True)
    size, negative = round_size(
        code & 0x7FFFFFFF, (code < 0).to(tl.int32), word, 23, IS_FLOAT, MODE, KEPT, FLIP, NORMAL, STEP, LOWEST, HIGHEST, BELOW, ABOVE,
        MINUS, PLUS, WRAP_BITS, LOW_STEPS, RANDOM_BITS,
    )  # fmt: skip
    return (size | (negative << 31)).to(tl.float32, bitcast=True)


@triton.jit
def round_float64(  # type: ignore[no-untyped-def]
    x, IS_FLOAT: tl.constexpr, MODE: tl.constexpr, KEPT: tl.constexpr, FLIP: tl.constexpr, NORMAL: tl.constexpr, STEP: tl.constexpr,
    LOWEST: tl.constexpr, HIGHEST: tl.constexpr, BELOW: tl.constexpr, ABOVE: tl.constexpr, MINUS: tl.constexpr, PLUS: tl.constexpr,
):  # fmt: skip
    """Return rounded float64 numbers, without random bits and without wrapping."""
    code = x.to(tl.int64, bitcast=True)
    size, negative = round_size(
        code & 0x7FFFFFFFFFFFFFFF, (code < 0).to(tl.int64), 0, 52, IS_FLOAT, MODE, KEPT, FLIP, NORMAL, STEP, LOWEST, HIGHEST, BELOW,
        ABOVE, MINUS, PLUS, 0, 0, 1,
    )  # fmt: skip
    return (size | (negative << 63)).to(tl.float64, bitcast=True)


@triton.jit(do_not_specialize=["size", "seed", "stream", "inner", "count"])
def round_kernel(  # type: ignore[no-untyped-def]
    x_ptr, y_ptr, factors_ptr, size, seed, stream, inner, count, SCALED: tl.constexpr, BLOCKS: tl.constexpr,
    IS_FLOAT: tl.constexpr, MODE: tl.constexpr, KEPT: tl.constexpr, FLIP: tl.constexpr, NORMAL: tl.constexpr, STEP: tl.constexpr,
    LOWEST: tl.constexpr, HIGHEST: tl.constexpr, BELOW: tl.constexpr, ABOVE: tl.constexpr, MINUS: tl.constexpr, PLUS: tl.constexpr,
    WRAP_BITS: tl.constexpr, LOW_STEPS: tl.constexpr, RANDOM_BITS: tl.constexpr,
):  # fmt: skip
    """Round BLOCKS blocks of 64 elements; the words of one counter belong to elements 16 apart."""
    block = tl.program_id(0).to(tl.int64) * BLOCKS + tl.arange(0, BLOCKS)[:, None]
    lane = tl.arange(0, 16)[None, :]
    if MODE == STOCHASTIC:
        word0, word1, word2, word3 = draw_words(block * 16 + lane, seed.to(tl.int64), stream.to(tl.int64))
    else:
        word0, word1, word2, word3 = 0, 0, 0, 0
    for part in tl.static_range(4):
        if part == 0:
            word = word0
        elif part == 1:
            word = word1
        elif part == 2:
            word = word2
        else:
            word = word3
        index = block * 64 + 16 * part + lane
        inside = index < size
        x = tl.load(x_ptr + index, mask=inside, other=0.0)
        if SCALED:
            factor = tl.load(factors_ptr + index // inner % count, mask=inside, other=1.0)
            x = tl.div_rn(x, factor)
        y = round_float32(
            x, word, IS_FLOAT, MODE, KEPT, FLIP, NORMAL, STEP, LOWEST, HIGHEST, BELOW, ABOVE, MINUS, PLUS, WRAP_BITS, LOW_STEPS,
            RANDOM_BITS,
        )  # fmt: skip
        if SCALED:
            y = y * factor
        tl.store(y_ptr + index, y, mask=inside)


@triton.jit
def add_to_odd(a, b):  # type: ignore[no-untyped-def]
    """Return a + b in float64 rounded to odd, which rounds on to at most 24 bits as the exact sum does (Boldo and Melquiond 2008)."""
    total = a + b
    part = total - a
    error = (a - (total - part)) + (b - part)
    code = total.to(tl.int64, bitcast=True)
    outwards = (error > 0) == (code >= 0)
    inexact = ((error > 0) | (error < 0)) & ((code & 1) == 0) & ((code & 0x7FFFFFFFFFFFFFFF) < 9218868437227405312)
    return tl.where(inexact, tl.where(outwards, code + 1, code - 1), code).to(tl.float64, bitcast=True)


@triton.jit(do_not_specialize=["m", "n", "k"])
def product_kernel(  # type: ignore[no-untyped-def]
    a_ptr, b_ptr, y_ptr, m, n, k, a_row, a_column, b_row, b_column, ROWS: tl.constexpr, COLUMNS: tl.constexpr, MODE: tl.constexpr,
    ROUND_PRODUCTS: tl.constexpr,
    P_IS_FLOAT: tl.constexpr, P_KEPT: tl.constexpr, P_FLIP: tl.constexpr, P_NORMAL: tl.constexpr, P_STEP: tl.constexpr,
    P_LOWEST: tl.constexpr, P_HIGHEST: tl.constexpr, P_BELOW: tl.constexpr, P_ABOVE: tl.constexpr, P_MINUS: tl.constexpr,
    P_PLUS: tl.constexpr,
    IS_FLOAT: tl.constexpr, KEPT: tl.constexpr, FLIP: tl.constexpr, NORMAL: tl.constexpr, STEP: tl.constexpr,
    LOWEST: tl.constexpr, HIGHEST: tl.constexpr, BELOW: tl.constexpr, ABOVE: tl.constexpr, MINUS: tl.constexpr,
    PLUS: tl.constexpr,
):  # fmt: skip
    """Compute a tile of y = a b, one term after the other; P_ are the constants of the products' format."""
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    column = (tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)).to(tl.int64)
    total = tl.full((ROWS, COLUMNS), 0.0, dtype=tl.float64)
    a_at, b_at = a_ptr + row * a_row, b_ptr + column * b_column
    for _ in range(k):
        a = tl.load(a_at, mask=row < m, other=0.0).to(tl.float64)
        b = tl.load(b_at, mask=column < n, other=0.0).to(tl.float64)
        a_at += a_column
        b_at += b_row
        product = a[:, None] * b[None, :]
        if ROUND_PRODUCTS:
            product = round_float64(
                product, P_IS_FLOAT, MODE, P_KEPT, P_FLIP, P_NORMAL, P_STEP, P_LOWEST, P_HIGHEST, P_BELOW, P_ABOVE, P_MINUS, P_PLUS
            )
        total = round_float64(
            add_to_odd(total, product), IS_FLOAT, MODE, KEPT, FLIP, NORMAL, STEP, LOWEST, HIGHEST, BELOW, ABOVE, MINUS, PLUS
        )
    code = total.to(tl.float32).to(tl.int32, bitcast=True)
    code = tl.where((code & 0x7FFFFFFF) > 0x7F800000, 0x7FC00000, code)
    inside = (row < m)[:, None] & (column < n)[None, :]
    tl.store(y_ptr + row[:, None] * n + column[None, :], code.to(tl.float32, bitcast=True), mask=inside)
