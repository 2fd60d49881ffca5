"""The numbers that array rounding needs of a format, computed once; the NumPy and the native version share them."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

from convsmith.errors import UsageError
from convsmith.formats.format import Format
from convsmith.formats.limits import max_value, min_value, smallest_normal
from convsmith.formats.modes import ROUNDINGS, Overflow, Rounding
from convsmith.formats.validity import MAX_SCALE_BITS_32, MIN_EXPONENT_32


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
    is_binary: bool = False
    #: Zero has a sign.
    negative_zero: bool = True
    #: False: there is no zero, and positive numbers below ``lowest`` become it.
    zero: bool = True
    #: Below ``smallest_normal`` there is nothing but zero, and that number is no power of two.
    all_normal: bool = False
    #: float64 arithmetic is needed also for float32 input.
    double: bool = False
    #: The results are float64.
    wide: bool = False

    @property
    def ordinary(self) -> bool:
        """Whether the fields up to ``random_bits`` say everything, and float32 arithmetic is enough."""
        signs = not self.is_float or (self.negative_zero and self.lowest == -self.highest)
        return signs and not (self.is_binary or self.double or self.wide)


@functools.lru_cache(maxsize=256)
def constants(fmt: Format, rounding: Rounding, overflow: Overflow, random_bits: int) -> Constants:
    """Return the constants of a format and modes that `modes.check_modes` has accepted.

    Raises: UsageError for a block format, which is rounded block by block.
    """
    if fmt.element is not None:
        raise UsageError(f"{fmt} is rounded block by block; round_array does it, and its element {fmt.element} has constants.")
    low, high = min_value(fmt), max_value(fmt)
    infinity = math.inf if fmt.has_infinity else math.nan
    plus, minus = (infinity, -infinity if fmt.signed else math.nan) if overflow == "infinity" else (high, low)
    above = high if overflow != "infinity" or rounding in ("toward_zero", "to_odd", "down") else plus
    below = low if overflow != "infinity" or rounding in ("toward_zero", "to_odd", "up") else minus
    is_float = fmt.kind == "float"
    step = -fmt.fraction_bits
    if is_float:
        step = 1 - fmt.bias - (fmt.significand_bits if fmt.subnormals else 0)
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
        is_binary=fmt.kind == "binary",
        negative_zero=fmt.negative_zero,
        zero=fmt.zero,
        all_normal=fmt.all_normal,
        double=fmt.carrier == "float64" or fmt.all_normal or (is_float and not _single_precision(fmt)),
        wide=fmt.carrier == "float64",
    )


def _single_precision(fmt: Format) -> bool:
    """Tell whether float32 arithmetic rounds to a float format that float32 carries: its normal numbers are normal there."""
    return MIN_EXPONENT_32 <= 1 - fmt.bias <= MAX_SCALE_BITS_32
