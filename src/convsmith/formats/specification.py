"""What rounding means, one number at a time, in exact arithmetic. Every faster version is tested against this one."""

from __future__ import annotations

import math
from fractions import Fraction

from convsmith.errors import UsageError
from convsmith.formats.format import Format
from convsmith.formats.limits import max_value, min_value, smallest_positive
from convsmith.formats.modes import MAX_RANDOM_BITS, Overflow, Rounding, check_modes


def round_scalar(
    x: float,
    fmt: Format,
    rounding: Rounding = "nearest_even",
    overflow: Overflow = "saturate",
    random: int = 0,
    random_bits: int = MAX_RANDOM_BITS,
) -> float:
    """Round one real number to a format, exactly: the specification.

    The number is first rounded as if the exponent had no upper end; what then exceeds the largest value has overflowed, and becomes that
    value ("saturate"), infinity or, where the format has only that, NaN ("infinity"), or is reduced modulo the range ("wrap"). With
    "infinity", a mode that rounds a finite number towards zero, or to odd, stops at the largest value, as IEEE 754 has it.
    Ties go to the even code. Stochastic rounding takes ``random``, an integer of ``random_bits`` bits, and rounds away from zero when
    ``fraction + random / 2**random_bits >= 1``, ``fraction`` being the part of a step that is cut off.
    NaN stays NaN, also in formats that have none, so that it shows; zero keeps its sign in formats that have a negative zero; without
    subnormals the step below the smallest normal number is that number. In a format without zero every positive number below the smallest
    becomes the smallest, and zero is below the range. An unsigned format has nothing below its range: "infinity" gives NaN there.
    Binary values are the sign of a number, +1 for zero; "stochastic" takes +1 when ``(x + 1) / 2 + random / 2**random_bits >= 1``, so with
    the probability of the hard sigmoid; "up" and "down" take the other value for what is not -1 or +1 exactly.
    References: IEEE 754-2019, sections 4.3 and 7.4; StochasticFastest of gfloat and StochasticA of IEEE P3109 for the random bits;
    Courbariaux et al. 2015, arXiv 1511.00363, equations 1 to 3, for binary values.
    Raises: UsageError for modes that the format cannot have, and for a random number out of range.
    """
    check_modes(fmt, rounding, overflow, random_bits)
    if not 0 <= random < 1 << random_bits:
        raise UsageError(f"random must be an integer of {random_bits} bits, 0 to {(1 << random_bits) - 1}; got {random}.")
    sign = math.copysign(1.0, x)
    if math.isnan(x):
        return math.copysign(math.nan, sign)
    if fmt.kind == "binary":
        return _binary(x, rounding, Fraction(random, 1 << random_bits))
    if math.isinf(x):
        return _overflowed(x, None, fmt, rounding, overflow)
    exact = Fraction(abs(x))
    if not fmt.zero and x > 0:
        exact = max(exact, Fraction(min_value(fmt)))
    step, first_code = _step(exact, fmt)
    count, rest = divmod(exact, step)
    fraction = rest / step
    if _rounds_away(fraction, (first_code + count) % 2 == 1, sign < 0, rounding, Fraction(random, 1 << random_bits)):
        count += 1
    result = int(sign) * count * step
    if not min_value(fmt) <= result <= max_value(fmt):
        return _overflowed(x, result, fmt, rounding, overflow)
    return math.copysign(float(result), sign) if fmt.negative_zero else float(result)


def _step(exact: Fraction, fmt: Format) -> tuple[Fraction, int]:
    """Return the gap between neighbours around a magnitude, and what to add to its count of steps to have its code's parity."""
    if fmt.kind != "float":
        return Fraction(2) ** -fmt.fraction_bits, 0
    least = 1 - fmt.bias
    if fmt.all_normal and fmt.zero and exact < Fraction(smallest_positive(fmt)):
        return Fraction(smallest_positive(fmt)), 0
    # The denominator is a power of two, so the bit lengths give the exponent exactly.
    exponent = exact.numerator.bit_length() - exact.denominator.bit_length()
    if exact == 0 or (exponent < least and not fmt.all_normal):
        return Fraction(2) ** (least - (fmt.significand_bits if fmt.subnormals else 0)), 0
    # The count is 2^m + fraction and the code (exponent - least + 1) 2^m + fraction: their parities differ only without fraction bits.
    return Fraction(2) ** (exponent - fmt.significand_bits), (exponent - least) << fmt.significand_bits


def _rounds_away(fraction: Fraction, odd: bool, negative: bool, rounding: Rounding, random: Fraction) -> bool:
    """Tell whether the magnitude goes up to the next count of steps."""
    half = Fraction(1, 2)
    match rounding:
        case "toward_zero":
            return False
        case "nearest_even":
            return fraction > half or (fraction == half and odd)
        case "nearest_away":
            return fraction >= half
        case "up":
            return fraction > 0 and not negative
        case "down":
            return fraction > 0 and negative
        case "to_odd":
            return fraction > 0 and not odd
        case "stochastic":
            return fraction + random >= 1


def _overflowed(x: float, result: Fraction | None, fmt: Format, rounding: Rounding, overflow: Overflow) -> float:
    """Return what stands for a value beyond the range; ``result`` is None for an infinite ``x``."""
    limit = max_value(fmt) if x > 0 else min_value(fmt)
    if overflow == "saturate":
        return limit
    if overflow == "wrap":
        if result is None:
            return math.copysign(math.nan, x)
        period = Fraction(2) ** fmt.integer_bits
        return float((result - Fraction(min_value(fmt))) % period + Fraction(min_value(fmt)))
    inward = rounding in ("toward_zero", "to_odd", "down" if x > 0 else "up")
    if inward and result is not None:
        return limit
    return math.copysign(math.inf if fmt.has_infinity and (fmt.signed or x > 0) else math.nan, x)


def _binary(x: float, rounding: Rounding, random: Fraction) -> float:
    """Round to -1 or +1."""
    if math.isinf(x):
        return math.copysign(1.0, x)
    exact = Fraction(x)
    match rounding:
        case "up":
            positive = exact > -1
        case "down":
            positive = exact >= 1
        case "stochastic":
            positive = (exact + 1) / 2 + random >= 1
        case _:
            positive = exact >= 0
    return 1.0 if positive else -1.0
