"""What rounding to a block format means, one block at a time, in exact arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from convsmith.formats.format import Format
from convsmith.formats.limits import largest_exponent, largest_scale_exponent, max_value, smallest_scale_exponent
from convsmith.formats.modes import MAX_RANDOM_BITS, Overflow, Rounding
from convsmith.formats.specification import round_scalar


def shared_exponent(block: Sequence[float], fmt: Format) -> int | None:
    """Return the exponent of the scale that a block shares, None where a NaN or an infinity makes the block NaN.

    References: OCP MX 1.0, section 6.3: the largest power of two in the largest magnitude, divided by that in the element format.
    """
    assert fmt.element is not None
    if not all(map(math.isfinite, block)):
        return None
    largest = max((abs(Fraction(x)) for x in block), default=Fraction(0))
    low, high = smallest_scale_exponent(fmt), largest_scale_exponent(fmt)
    if largest == 0:
        return low
    exponent = largest.numerator.bit_length() - largest.denominator.bit_length() - largest_exponent(fmt.element)
    if fmt.rule == "fit" and largest > Fraction(max_value(fmt.element)) * Fraction(2) ** exponent:
        exponent += 1
    return min(max(exponent, low), high)


def round_block(
    block: Sequence[float],
    fmt: Format,
    rounding: Rounding = "nearest_even",
    overflow: Overflow = "saturate",
    randoms: Sequence[int] | None = None,
    random_bits: int = MAX_RANDOM_BITS,
) -> list[float]:
    """Round the elements that share a scale, each as `round_scalar` rounds ``x / scale`` to the element format, and scale them back."""
    assert fmt.element is not None
    exponent = shared_exponent(block, fmt)
    if exponent is None:
        return [math.nan] * len(block)
    drawn = randoms or [0] * len(block)
    # A quotient below every float64 number rounds like the smallest of them.
    quotients = [math.ldexp(x, -exponent) or math.copysign(math.ulp(0.0) if x else 0.0, x) for x in block]
    rounded = [round_scalar(q, fmt.element, rounding, overflow, r, random_bits) for q, r in zip(quotients, drawn, strict=True)]
    return [math.ldexp(v, exponent) for v in rounded]
