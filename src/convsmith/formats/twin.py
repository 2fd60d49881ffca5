"""Rounding of arrays in plain NumPy: the readable twin of the native kernels, and the fallback without them.

It works on the bits of float64, of which every input type is a part, so that float64 is rounded once and not by way of float32.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from convsmith.formats.constants import Constants
from convsmith.formats.modes import ROUNDINGS

F64 = NDArray[np.float64]
U64 = NDArray[np.uint64]
Flags = NDArray[np.bool_]
#: 32 bits for an element, or 64 where more than 32 random bits are asked for.
Words = NDArray[np.uint32] | NDArray[np.uint64]

_SIGN: Final = np.uint64(1 << 63)
_ONE: Final = np.uint64(1)
#: Magnitudes below 2^-800 steps round like 2^-800 steps, and numbers of 2^800 and more are whole multiples of any period.
_TINY, _HUGE = 2.0**-800, 2.0**800


def round_values(x: F64, spec: Constants, words: Words | None) -> F64:
    """Round a float64 array; ``words`` are the random words of stochastic rounding, None in other modes."""
    nan = np.isnan(x)
    number = np.where(nan, 0.0, x)
    if spec.is_binary:
        result = _round_binary(number, spec, words)
    elif spec.is_float:
        result = _round_float(number, spec, words)
    else:
        result = _round_fixed(number, spec, words)
    if not spec.is_binary:
        result = np.where(np.isinf(number), np.where(number > 0, spec.plus_infinity, spec.minus_infinity), result)
    if spec.wrap_bits:
        result[np.isinf(number)] = np.nan
    return np.copysign(np.where(nan, np.nan, result), np.where(nan | np.isnan(result), x, result))


def _round_float(x: F64, spec: Constants, words: Words | None) -> F64:
    negative = np.signbit(x)
    size = np.abs(x)
    if not spec.zero:
        size = np.where(x > 0, np.maximum(size, spec.lowest), size)
    small = _smallest_or_zero(size, negative, spec, words) if spec.all_normal else _whole_steps(size, negative, spec, words)
    result = np.copysign(np.where(size < spec.smallest_normal, small, _cut_bits(size, negative, spec, words)), x)
    if not spec.negative_zero:
        result = result + 0.0
    return np.where(result > spec.highest, spec.above, np.where(result < spec.lowest, spec.below, result))


def _round_fixed(x: F64, spec: Constants, words: Words | None) -> F64:
    result = np.copysign(_whole_steps(np.abs(x), np.signbit(x), spec, words), x)
    if spec.wrap_bits:
        period = 2.0 ** (spec.wrap_bits + spec.step_exponent)
        offset = np.fmod(result, period) + 0.0
        offset = np.where(offset < spec.lowest, offset + period, offset)
        return np.where(offset >= spec.lowest + period, offset - period, offset)
    return np.clip(result, spec.lowest, spec.highest) + 0.0


def _round_binary(x: F64, spec: Constants, words: Words | None) -> F64:
    match ROUNDINGS[spec.mode]:
        case "up":
            positive = x > -1
        case "down":
            positive = x >= 1
        case "stochastic":
            positive = x >= 1.0 - np.ldexp(_drawn(spec, words).astype(np.float64), 1 - spec.random_bits)
        case _:
            positive = x >= 0
    return np.where(positive, 1.0, -1.0)


def _smallest_or_zero(size: F64, negative: Flags, spec: Constants, words: Words | None) -> F64:
    """Round magnitudes below the smallest positive value of a format without subnormal codes, which is no power of two."""
    least = spec.smallest_normal
    match ROUNDINGS[spec.mode]:
        case "toward_zero":
            away = np.zeros(size.shape, np.bool_)
        case "nearest_even":
            away = size > least / 2
        case "nearest_away":
            away = size >= least / 2
        case "up":
            away = (size > 0) & ~negative
        case "down":
            away = (size > 0) & negative
        case "to_odd":
            away = size > 0
        case "stochastic":
            # Exact: at most 24 bits of each factor.
            away = size >= least * (1.0 - np.ldexp(_drawn(spec, words).astype(np.float64), -spec.random_bits))
    return np.where(away, least, 0.0)


def _cut_bits(size: F64, negative: Flags, spec: Constants, words: Words | None) -> F64:
    """Round magnitudes to ``significand_bits`` fraction bits by adding to their codes and cutting off the low bits."""
    if spec.significand_bits == 52:
        return size
    code = size.view(np.uint64)
    cut = np.uint64(52 - spec.significand_bits)
    rest_mask = (_ONE << cut) - _ONE
    half = _ONE << (cut - _ONE)
    rest = code & rest_mask
    odd = ((code >> cut) & _ONE) ^ np.uint64(spec.flip_parity)
    match ROUNDINGS[spec.mode]:
        case "toward_zero":
            added = np.zeros_like(code)
        case "nearest_even":
            added = half - _ONE + odd
        case "nearest_away":
            added = np.full_like(code, half)
        case "up":
            added = np.where(negative, np.uint64(0), rest_mask)
        case "down":
            added = np.where(negative, rest_mask, np.uint64(0))
        case "to_odd":
            added = np.where((rest != 0) & (odd == 0), _ONE << cut, np.uint64(0))
        case "stochastic":
            added = (_drawn(spec, words) << np.uint64(64 - spec.random_bits)) >> (np.uint64(64) - cut)
    rounded: F64 = ((code + added) & ~rest_mask).view(np.float64)
    return rounded


def _whole_steps(size: F64, negative: Flags, spec: Constants, words: Words | None) -> F64:
    """Round magnitudes to whole multiples of ``2**step_exponent``."""
    steps = np.ldexp(np.minimum(size, _HUGE), -spec.step_exponent)
    steps = np.where(size > 0, np.maximum(steps, _TINY), 0.0)
    whole = np.floor(steps)
    rest = steps - whole
    odd = np.fmod(whole, 2.0) == 1.0
    match ROUNDINGS[spec.mode]:
        case "toward_zero":
            away = np.zeros(size.shape, np.bool_)
        case "nearest_even":
            away = (rest > 0.5) | ((rest == 0.5) & odd)
        case "nearest_away":
            away = rest >= 0.5
        case "up":
            away = (rest > 0) & ~negative
        case "down":
            away = (rest > 0) & negative
        case "to_odd":
            away = (rest > 0) & ~odd
        case "stochastic":
            away = rest >= 1.0 - np.ldexp(_drawn(spec, words).astype(np.float64), -spec.random_bits)
    rounded: F64 = np.ldexp(whole + away, spec.step_exponent)
    return rounded


def _drawn(spec: Constants, words: Words | None) -> U64:
    assert words is not None
    return words.astype(np.uint64) >> np.uint64(8 * words.itemsize - spec.random_bits)
