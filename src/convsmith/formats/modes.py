"""Names of the rounding modes and of what happens beyond a format's range."""

from __future__ import annotations

from typing import Final, Literal, get_args

from convsmith.errors import UsageError, near
from convsmith.formats.format import Format

Rounding = Literal["toward_zero", "nearest_even", "nearest_away", "up", "down", "to_odd", "stochastic"]
Overflow = Literal["saturate", "infinity", "wrap"]

ROUNDINGS: Final[tuple[Rounding, ...]] = get_args(Rounding)
OVERFLOWS: Final[tuple[Overflow, ...]] = get_args(Overflow)

#: The carrier has 24 significand bits, so more random bits could not change a result for normal numbers.
MAX_RANDOM_BITS: Final = 24


def check_modes(fmt: Format, rounding: str, overflow: str, random_bits: int) -> None:
    """Refuse a rounding, an overflow or a number of random bits that does not exist or that the format cannot have."""
    if rounding not in ROUNDINGS:
        raise UsageError(f"Unknown rounding {rounding!r}.{near(rounding, ROUNDINGS)} The modes are {', '.join(ROUNDINGS)}.")
    if overflow not in OVERFLOWS:
        raise UsageError(f"Unknown overflow {overflow!r}.{near(overflow, OVERFLOWS)} The rules are {', '.join(OVERFLOWS)}.")
    if overflow == "wrap" and fmt.kind == "float":
        raise UsageError(f"overflow='wrap' is for fixed point and integers; {fmt} is a float: take 'saturate' or 'infinity'.")
    if overflow == "wrap" and fmt.symmetric:
        raise UsageError(f"overflow='wrap' needs all codes of two's complement; {fmt} leaves one out: take 'saturate'.")
    if overflow == "infinity" and fmt.specials == "finite":
        raise UsageError(f"overflow='infinity' needs a format with infinities or NaN; {fmt} has neither: take 'saturate'.")
    if not 1 <= random_bits <= MAX_RANDOM_BITS:
        raise UsageError(f"random_bits must be 1 to {MAX_RANDOM_BITS}; got {random_bits}.")
