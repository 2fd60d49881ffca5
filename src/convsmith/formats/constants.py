"""The numbers that array rounding needs of a format, computed once; the NumPy and the native version share them."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

from convsmith.formats.format import Format
from convsmith.formats.limits import max_value, min_value, smallest_normal
from convsmith.formats.modes import ROUNDINGS, Overflow, Rounding


class Constants(NamedTuple):
    """One format, rounding and overflow as plain numbers; the fields are those of ``Rounding`` in native/round.h."""

    is_float: bool
    #: Position in `modes.ROUNDINGS`.
    mode: int
    significand_bits: int
    #: Without fraction bits the parity of a code is that of its exponent field; True when that is not the carrier's.
    flip_parity: bool
    #: From here up a float has full precision; below, and everywhere in fixed point, the step is ``2**step_exponent``.
    smallest_normal: float
    step_exponent: int
    lowest: float
    highest: float
    #: What stands for a number beyond ``lowest`` and ``highest``, and for an infinite one.
    below: float
    above: float
    minus_infinity: float
    plus_infinity: float
    #: Width in bits when overflow wraps, else 0.
    wrap_bits: int
    random_bits: int


@functools.lru_cache(maxsize=256)
def constants(fmt: Format, rounding: Rounding, overflow: Overflow, random_bits: int) -> Constants:
    """Return the constants of a format and modes that `modes.check_modes` has accepted."""
    low, high = min_value(fmt), max_value(fmt)
    infinity = math.inf if fmt.specials == "ieee" else math.nan
    plus, minus = (infinity, -infinity) if overflow == "infinity" else (high, low)
    above = high if overflow != "infinity" or rounding in ("toward_zero", "to_odd", "down") else plus
    below = low if overflow != "infinity" or rounding in ("toward_zero", "to_odd", "up") else minus
    is_float = fmt.kind == "float"
    step = 1 - fmt.bias - (fmt.significand_bits if fmt.subnormals else 0) if is_float else -fmt.fraction_bits
    return Constants(
        is_float=is_float,
        mode=ROUNDINGS.index(rounding),
        significand_bits=fmt.significand_bits,
        flip_parity=is_float and fmt.significand_bits == 0 and fmt.bias % 2 == 0,
        smallest_normal=smallest_normal(fmt),
        step_exponent=step,
        lowest=low,
        highest=high,
        below=below,
        above=above,
        minus_infinity=minus,
        plus_infinity=plus,
        wrap_bits=fmt.bits if overflow == "wrap" else 0,
        random_bits=random_bits,
    )
