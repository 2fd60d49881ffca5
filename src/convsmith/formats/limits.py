"""The range of a format, and the values of a small one."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from convsmith.errors import UsageError
from convsmith.formats.format import Format
from convsmith.formats.validity import highest_exponent, largest_code, lowest_exponent

LISTABLE_BITS: Final = 20


def max_value(fmt: Format) -> float:
    """Return the largest finite value; of a block format that under its largest scale."""
    if fmt.element is not None and fmt.scale is not None:
        return math.ldexp(max_value(fmt.element), largest_scale_exponent(fmt))
    if fmt.kind == "binary":
        return 1.0
    if fmt.kind == "float":
        return magnitude(largest_code(fmt), fmt)
    return math.ldexp((1 << (fmt.bits - fmt.signed)) - 1, -fmt.fraction_bits)


def min_value(fmt: Format) -> float:
    """Return the most negative finite value; of an unsigned format 0, or the smallest one where there is no zero."""
    if fmt.element is not None:
        return math.ldexp(min_value(fmt.element), largest_scale_exponent(fmt))
    if fmt.kind == "float" and not fmt.signed:
        return 0.0 if fmt.zero else smallest_positive(fmt)
    if fmt.kind == "float" or fmt.symmetric:
        return -max_value(fmt)
    return math.ldexp(-(1 << (fmt.bits - 1)) if fmt.signed else 0, -fmt.fraction_bits)


def smallest_normal(fmt: Format) -> float:
    """Return the smallest positive value of full precision; for fixed point and integers the step."""
    if fmt.element is not None:
        return math.ldexp(smallest_normal(fmt.element), smallest_scale_exponent(fmt))
    if fmt.kind == "binary":
        return 1.0
    if fmt.kind == "float":
        return magnitude(1 if fmt.zero else 0, fmt) if fmt.all_normal else math.ldexp(1.0, 1 - fmt.bias)
    return math.ldexp(1.0, -fmt.fraction_bits)


def smallest_positive(fmt: Format) -> float:
    """Return the smallest positive value: the smallest subnormal where there are subnormals."""
    if fmt.element is not None:
        return math.ldexp(smallest_positive(fmt.element), smallest_scale_exponent(fmt))
    if fmt.kind == "float" and fmt.subnormals:
        return math.ldexp(1.0, 1 - fmt.bias - fmt.significand_bits)
    return smallest_normal(fmt)


def epsilon(fmt: Format) -> float:
    """Return the gap between 1 and the next value of an unbounded exponent, ``2**-m``; for fixed point and integers the step."""
    if fmt.element is not None:
        return epsilon(fmt.element)
    if fmt.kind == "binary":
        return 2.0
    return math.ldexp(1.0, -fmt.significand_bits) if fmt.kind == "float" else math.ldexp(1.0, -fmt.fraction_bits)


def largest_scale_exponent(fmt: Format) -> int:
    """Return the exponent of a block format's largest scale, at which the elements' values are still float32 values."""
    assert fmt.element is not None and fmt.scale is not None
    return min(highest_exponent(fmt.scale), 127 - largest_exponent(fmt.element))


def smallest_scale_exponent(fmt: Format) -> int:
    """Return the exponent of a block format's smallest scale."""
    assert fmt.scale is not None
    return lowest_exponent(fmt.scale)


def largest_exponent(fmt: Format) -> int:
    """Return the exponent of the largest value of a float, fixed-point or integer format."""
    return math.frexp(max_value(fmt))[1] - 1


def magnitude(code: int, fmt: Format) -> float:
    """Return the value of a floating-point code without its sign bit; codes above the largest finite one are not decoded here."""
    m = fmt.significand_bits
    field, fraction = code >> m, code & ((1 << m) - 1)
    if code == 0 and fmt.zero:
        return 0.0
    if field == 0 and not fmt.all_normal:
        return math.ldexp(fraction, 1 - fmt.bias - m) if fmt.subnormals else 0.0
    return math.ldexp((1 << m) + fraction, field - fmt.bias - m)


def values(fmt: Format) -> NDArray[Any]:
    """Return all finite values in ascending order, zero once, in the format's carrier.

    Raises: UsageError for a format of more than 20 bits, whose list would not be small, and for block formats, whose values depend on
    each other.
    """
    if fmt.element is not None:
        raise UsageError(f"The values of {fmt} depend on the shared scale; list those of its element {fmt.element}.")
    if fmt.bits > LISTABLE_BITS:
        raise UsageError(f"{fmt} has 2^{fmt.bits} codes; values are listed for formats of at most {LISTABLE_BITS} bits.")
    if fmt.kind == "binary":
        return np.array([-1, 1], np.float32)
    if fmt.kind == "float":
        first = 0 if fmt.subnormals or fmt.all_normal else 1 << fmt.significand_bits
        positive = np.array([magnitude(code, fmt) for code in range(first, largest_code(fmt) + 1)], fmt.carrier)
        zero = np.zeros(int(fmt.zero), fmt.carrier)
        return np.unique(np.concatenate([-positive if fmt.signed else zero, zero, positive]))
    step = smallest_normal(fmt)
    count = round((max_value(fmt) - min_value(fmt)) / step) + 1
    listed: NDArray[Any] = (min_value(fmt) + step * np.arange(count)).astype(fmt.carrier)
    return listed
