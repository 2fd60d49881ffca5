"""Which integer code stands for which value, one number at a time. The array version is tested against this one."""

from __future__ import annotations

import math

from convsmith.errors import UsageError
from convsmith.formats.format import Format
from convsmith.formats.limits import magnitude
from convsmith.formats.validity import largest_code


def nan_code(fmt: Format) -> int:
    """Return the code of NaN in a float format that has one: the quiet one, positive where there is a choice."""
    m, top = fmt.significand_bits, 1 << (fmt.exponent_bits + fmt.significand_bits)
    if fmt.specials == "ieee":
        return top - (1 << m) + (1 << (m - 1))
    if fmt.specials == "fn" or not fmt.signed:
        return top - 1
    return top


def decode_scalar(code: int, fmt: Format) -> float:
    """Return the value of a code: sign, exponent and fraction of a float from the top, two's complement else, 1 for +1 in binary.

    Raises: UsageError for a code that the format's width does not hold, and for block formats.
    """
    if fmt.element is not None or not 0 <= code < 1 << fmt.bits:
        raise UsageError(f"{code} is not a code of {fmt}; its values have codes from 0 to {(1 << fmt.bits) - 1}.")
    if fmt.kind == "binary":
        return 1.0 if code else -1.0
    if fmt.kind != "float":
        whole = code - (1 << fmt.bits) if fmt.signed and code >> (fmt.bits - 1) else code
        return math.ldexp(whole, -fmt.fraction_bits)
    top = 1 << (fmt.exponent_bits + fmt.significand_bits)
    negative, rest = code >= top, code % top
    if rest == 0 and negative and not fmt.negative_zero:
        return math.nan
    if rest > largest_code(fmt):
        infinite = fmt.has_infinity and rest == largest_code(fmt) + 1
        return math.copysign(math.inf if infinite else math.nan, -1.0 if negative else 1.0)
    return math.copysign(magnitude(rest, fmt), -1.0 if negative else 1.0)


def encode_scalar(x: float, fmt: Format) -> int:
    """Return the code of a value of the format; the sign of NaN is lost.

    Raises: UsageError for a number that is not in the format.
    """
    refusal = UsageError(f"{x!r} is not a value of {fmt}; round it first.")
    if math.isnan(x):
        if not fmt.has_nan or fmt.element is not None:
            raise refusal
        return nan_code(fmt)
    if fmt.kind == "float":
        code = _float_code(abs(x), fmt)
        negative = math.copysign(1.0, x) < 0 and (x != 0 or fmt.negative_zero)
        code = code if not negative or not fmt.signed else code + (1 << (fmt.exponent_bits + fmt.significand_bits))
    else:
        code = int(x > 0) if fmt.kind == "binary" else int(math.ldexp(x, fmt.fraction_bits)) % (1 << fmt.bits) if math.isfinite(x) else 0
    if decode_scalar(code, fmt) != x:
        raise refusal
    return code


def _float_code(size: float, fmt: Format) -> int:
    """Return the largest code whose magnitude is at most ``size``: magnitudes are in the order of codes."""
    if math.isinf(size):
        return largest_code(fmt) + 1 if fmt.has_infinity else 0
    low, high = 0, largest_code(fmt)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if magnitude(middle, fmt) <= size else (low, middle - 1)
    return low
