"""A picture of a format's values: how dense they lie over the powers of two, as a line of text."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from convsmith.formats.format import Format
from convsmith.formats.limits import LISTABLE_BITS, max_value, smallest_positive, values

#: Powers of two that the line spans.
LOWEST, HIGHEST = -16, 16
#: From none to many values in one binade.
_SHADES: Final = " .:-=+*#%@"


def number_line(fmt: Format) -> str:
    """Return one character for each binade from 2^-16 to 2^16: the darker, the more positive values lie in it; arrows where more follow.

    A shade is about one bit: "." is one value, ":" two, "-" up to four, and so on.
    """
    line = "".join(_shade(_count(fmt, exponent)) for exponent in range(LOWEST, HIGHEST + 1))
    left = "<" if smallest_positive(fmt) < 2.0**LOWEST else "|"
    return f"{left}{line}{'>' if max_value(fmt) >= 2.0 ** (HIGHEST + 1) else '|'}"


def dots(fmt: Format, width: int = 101) -> str:
    """Return the values between the two ends of a small format as marks on a line, zero in the middle."""
    top = max(max_value(fmt), 1e-300)
    marks = [" "] * width
    for value in values(fmt):
        marks[round((float(value) / top + 1) / 2 * (width - 1))] = "|"
    return "".join(marks)


def _shade(count: int) -> str:
    return _SHADES[min(count.bit_length(), len(_SHADES) - 1)] if count else _SHADES[0]


def _count(fmt: Format, exponent: int) -> int:
    """Return how many positive values lie from ``2**exponent`` up to the next power of two; in blocks, under the scale 1."""
    element = fmt.element or fmt
    low, high = 2.0**exponent, 2.0 ** (exponent + 1)
    if element.bits <= min(LISTABLE_BITS, 12):
        found = values(element)
        return int(np.count_nonzero((found >= low) & (found < high)))
    if element.kind == "float":
        step = max(smallest_positive(element), math.ldexp(1.0, exponent - element.significand_bits))
        return int((high - low) / step) if smallest_positive(element) <= low <= max_value(element) else 0
    inside = min(high, max_value(element)) - low
    return max(0, math.ceil(inside * 2.0**element.fraction_bits)) if high > smallest_positive(element) else 0
