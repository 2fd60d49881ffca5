"""Names of the rounding modes and of what happens beyond a format's range."""

from __future__ import annotations

from typing import Final, Literal, get_args

from convsmith.errors import UsageError, near
from convsmith.formats.format import Format

Rounding = Literal["toward_zero", "nearest_even", "nearest_away", "up", "down", "to_odd", "stochastic"]
Overflow = Literal["saturate", "infinity", "wrap"]

ROUNDINGS: Final[tuple[Rounding, ...]] = get_args(Rounding)
OVERFLOWS: Final[tuple[Overflow, ...]] = get_args(Overflow)

#: The usual carrier has 24 significand bits, so more random bits could not change a result for its normal numbers.
MAX_RANDOM_BITS: Final = 24
#: The same for formats that only float64 carries.
MAX_WIDE_RANDOM_BITS: Final = 52


def check_modes(fmt: Format, rounding: str, overflow: str, random_bits: int) -> None:
    """Refuse a rounding, an overflow or a number of random bits that does not exist or that the format cannot have."""
    if rounding not in ROUNDINGS:
        raise UsageError(f"Unknown rounding {rounding!r}.{near(rounding, ROUNDINGS)} The modes are {', '.join(ROUNDINGS)}.")
    if overflow not in OVERFLOWS:
        raise UsageError(f"Unknown overflow {overflow!r}.{near(overflow, OVERFLOWS)} The rules are {', '.join(OVERFLOWS)}.")
    if fmt.kind == "binary" and rounding in ("toward_zero", "to_odd"):
        raise UsageError(f"rounding={rounding!r} needs a zero or odd codes, and {fmt} has the values -1 and +1 alone: take 'nearest_even'.")
    if overflow == "wrap" and fmt.kind not in ("fixed", "integer"):
        kind = "a float" if fmt.kind == "float" else f"of kind {fmt.kind!r}"
        raise UsageError(f"overflow='wrap' is for fixed point and integers; {fmt} is {kind}: take 'saturate' or 'infinity'.")
    if overflow == "wrap" and fmt.symmetric:
        raise UsageError(f"overflow='wrap' needs all codes of two's complement; {fmt} leaves one out: take 'saturate'.")
    if overflow == "infinity" and fmt.specials == "finite":
        raise UsageError(f"overflow='infinity' needs a format with infinities or NaN; {fmt} has neither: take 'saturate'.")
    most = MAX_RANDOM_BITS if fmt.carrier == "float32" else MAX_WIDE_RANDOM_BITS
    if not 1 <= random_bits <= most:
        raise UsageError(f"random_bits must be 1 to {most}; got {random_bits}.")
