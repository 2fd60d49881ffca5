"""Rounding in Triton: float32 tensors on CUDA, and the float64 steps of the rounded products in `triton_products`.

A magnitude is an integer here, its code in float32 (23 fraction bits) or float64 (52), and everything but the scale and the exact products
and sums is integer arithmetic: no flush of subnormal numbers, contraction or approximate division can change a bit. The constants of a
format are compiled in, as one tuple SPEC in the order of `triton_launch.Spec`. This file is imported when a CUDA tensor comes; with
TRITON_INTERPRET=1 set before, it also runs on processors, slowly, which is how it is tested.
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
def draw_words(counter, low, high, seed):  # type: ignore[no-untyped-def]
    """Return the four words of Philox4x32-7 for counters of 64 bits followed by the words ``low`` and ``high``."""
    c0, c1 = counter.to(tl.uint32), (counter >> 32).to(tl.uint32)
    c2, c3 = (counter * 0 + low).to(tl.uint32), (counter * 0 + high).to(tl.uint32)
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
        # the rest in units of 2^-32 of a step, of which random bits are whole multiples: cut off, it decides the same
        left = tl.minimum(tl.maximum(32 - shift, 0), 32).to(tl.int64)
        share = (rest.to(tl.int64) << left) >> tl.minimum(tl.maximum(shift - 32, 0), 63).to(tl.int64)
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
def round_size(size, negative, word, M: tl.constexpr, SPEC: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return the code of a rounded magnitude, with LOWEST to PLUS the codes of constants.Constants without their signs, and its sign.

    M is the number of fraction bits of the codes, KEPT that of the format. A float's magnitude from NORMAL up keeps KEPT bits; smaller
    ones, and everything in fixed point, are rounded to steps of 2^STEP.
    """
    IS_FLOAT: tl.constexpr = SPEC[0]
    MODE: tl.constexpr = SPEC[1]
    KEPT: tl.constexpr = SPEC[2]
    FLIP: tl.constexpr = SPEC[3]
    NORMAL: tl.constexpr = SPEC[4]
    STEP: tl.constexpr = SPEC[5]
    WRAP_BITS: tl.constexpr = SPEC[12]
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
    away = goes_away(rest, half, odd, negative, word, shift, MODE, SPEC[14]).to(size.dtype)
    count = whole + away
    if IS_FLOAT:
        code = tl.where(normal, ((size >> cut) + away) << cut, code_of_steps(count, M, STEP))
    else:
        code = tl.where(shift <= 0, size, code_of_steps(count, M, STEP))
    if WRAP_BITS > 0:
        # Bits that leave at the top are multiples of the period.
        steps = count.to(tl.int64) << tl.minimum(tl.maximum(-shift, 0), 32).to(tl.int64)
        steps = tl.where(negative != 0, -steps, steps)
        steps = ((steps - SPEC[13]) & ((1 << WRAP_BITS) - 1)) + SPEC[13]
        negative = tl.where(size >= infinity, negative, (steps < 0).to(negative.dtype))
        code = code_of_steps(tl.where(steps < 0, -steps, steps).to(size.dtype), M, STEP)
        code = tl.where(size >= infinity, infinity + (1 << (M - 1)), code)
    else:
        code = tl.where(code > tl.where(negative != 0, SPEC[6], SPEC[7]), tl.where(negative != 0, SPEC[8], SPEC[9]), code)
        code = tl.where(size == infinity, tl.where(negative != 0, SPEC[10], SPEC[11]), code)
        code = tl.where(size > infinity, infinity + (1 << (M - 1)), code)
    if not SPEC[15]:
        negative = tl.where(code == 0, 0, negative)
    return code, negative


@triton.jit
def round_float32(x, word, SPEC: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return rounded float32 numbers."""
    code = x.to(tl.int32, bitcast=True)
    size, negative = round_size(code & 0x7FFFFFFF, (code < 0).to(tl.int32), word, 23, SPEC)
    return (size | (negative << 31)).to(tl.float32, bitcast=True)


@triton.jit
def round_float64(x, word, SPEC: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return rounded float64 numbers."""
    code = x.to(tl.int64, bitcast=True)
    size, negative = round_size(code & 0x7FFFFFFFFFFFFFFF, (code < 0).to(tl.int64), word, 52, SPEC)
    return (size | (negative << 63)).to(tl.float64, bitcast=True)


@triton.jit(do_not_specialize=["size", "seed", "stream", "inner", "count"])
def round_kernel(  # type: ignore[no-untyped-def]
    x_ptr, y_ptr, factors_ptr, size, seed, stream, inner, count, SCALED: tl.constexpr, BLOCKS: tl.constexpr, SPEC: tl.constexpr
):
    """Round BLOCKS blocks of 64 elements; the words of one counter belong to elements 16 apart."""
    block = tl.program_id(0).to(tl.int64) * BLOCKS + tl.arange(0, BLOCKS)[:, None]
    lane = tl.arange(0, 16)[None, :]
    if SPEC[1] == STOCHASTIC:
        wide = stream.to(tl.int64)
        word0, word1, word2, word3 = draw_words(block * 16 + lane, wide, wide >> 32, seed.to(tl.int64))
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
        y = round_float32(x, word, SPEC)
        if SCALED:
            y = y * factor
        tl.store(y_ptr + index, y, mask=inside)
