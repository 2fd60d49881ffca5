"""The range of a format, and the values of a small one."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from convsmith.errors import UsageError
from convsmith.formats.format import Format, largest_code

LISTABLE_BITS: Final = 20


def max_value(fmt: Format) -> float:
    """Return the largest finite value."""
    if fmt.kind == "float":
        return magnitude(largest_code(fmt), fmt)
    return math.ldexp((1 << (fmt.bits - fmt.signed)) - 1, -fmt.fraction_bits)


def min_value(fmt: Format) -> float:
    """Return the most negative finite value; 0 for an unsigned format."""
    if fmt.kind == "float" or fmt.symmetric:
        return -max_value(fmt)
    return math.ldexp(-(1 << (fmt.bits - 1)) if fmt.signed else 0, -fmt.fraction_bits)


def smallest_normal(fmt: Format) -> float:
    """Return the smallest positive value of full precision; for fixed point and integers the step."""
    return math.ldexp(1.0, 1 - fmt.bias) if fmt.kind == "float" else math.ldexp(1.0, -fmt.fraction_bits)


def smallest_positive(fmt: Format) -> float:
    """Return the smallest positive value: the smallest subnormal where there are subnormals."""
    if fmt.kind == "float" and fmt.subnormals:
        return math.ldexp(1.0, 1 - fmt.bias - fmt.significand_bits)
    return smallest_normal(fmt)


def epsilon(fmt: Format) -> float:
    """Return the gap between 1 and the next value of an unbounded exponent, ``2**-m``; for fixed point and integers the step."""
    return math.ldexp(1.0, -fmt.significand_bits) if fmt.kind == "float" else math.ldexp(1.0, -fmt.fraction_bits)


def magnitude(code: int, fmt: Format) -> float:
    """Return the value of a floating-point code without its sign bit; codes above the largest finite one are not decoded here."""
    m = fmt.significand_bits
    field, fraction = code >> m, code & ((1 << m) - 1)
    if field == 0:
        return math.ldexp(fraction, 1 - fmt.bias - m) if fmt.subnormals else 0.0
    return math.ldexp((1 << m) + fraction, field - fmt.bias - m)


def values(fmt: Format) -> NDArray[np.float32]:
    """Return all finite values in ascending order, zero once.

    Raises: UsageError for a format of more than 20 bits, whose list would not be small.
    """
    if fmt.bits > LISTABLE_BITS:
        raise UsageError(f"{fmt} has 2^{fmt.bits} codes; values are listed for formats of at most {LISTABLE_BITS} bits.")
    if fmt.kind == "float":
        first = 0 if fmt.subnormals else 1 << fmt.significand_bits
        positive = np.array([magnitude(code, fmt) for code in range(first, largest_code(fmt) + 1)], np.float32)
        return np.unique(np.concatenate([-positive, np.zeros(1, np.float32), positive]))
    step = smallest_normal(fmt)
    count = round((max_value(fmt) - min_value(fmt)) / step) + 1
    return (min_value(fmt) + step * np.arange(count)).astype(np.float32)
