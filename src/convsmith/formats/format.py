"""What a number is: one frozen record for floating point, fixed point and integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, Self

from convsmith.errors import UsageError

Kind = Literal["float", "fixed", "integer"]
Specials = Literal["ieee", "fn", "finite"]

#: Exponent range of float32, the carrier of every emulated value.
CARRIER_MIN_EXPONENT: Final = -126
CARRIER_MAX_EXPONENT: Final = 127
CARRIER_SIGNIFICAND_BITS: Final = 24

#: Steps of fixed point, and the smallest normal number of a float, may not be beyond two to this power: 2^23 steps are then in float32.
MAX_SCALE_BITS: Final = 100

#: Element formats of OCP MX 1.0 that have neither infinities nor NaN; their usual short names mean these.
FINITE_BY_STANDARD: Final = frozenset({(3, 2), (2, 3), (2, 1)})


def standard_specials(exponent_bits: int, significand_bits: int) -> Specials:
    """Return what a bare ``eXmY`` means in text: IEEE rules, but the OCP meaning for e3m2, e2m3 and e2m1."""
    return "finite" if (exponent_bits, significand_bits) in FINITE_BY_STANDARD else "ieee"


@dataclass(frozen=True, slots=True)
class Format:
    """A number format as data. Build it with `Format.float`, `Format.fixed`, `Format.integer` or `parse`.

    Every value of every format is a float32 value too, so that emulation can carry it in float32 without a second rounding; a format
    that does not fit into float32 is refused.

    Units: widths and exponents in bits and powers of two. ``significand_bits`` counts the stored fraction bits (10 for fp16).
    ``integer_bits`` of a signed fixed-point format includes the sign bit: ``<IL,FL>`` covers [-2^(IL-1), 2^(IL-1) - 2^-FL].
    References: IEEE 754-2019, section 3; OCP 8-bit floating point 1.0 (the "fn" rule); OCP MX 1.0 (the "finite" rule);
    Gupta et al. 2015, arXiv 1502.02551 (``<IL,FL>``).
    Raises: UsageError for a format that cannot exist or does not fit into float32.
    """

    kind: Kind
    exponent_bits: int = 0
    significand_bits: int = 0
    bias: int = 0
    subnormals: bool = True
    #: "ieee": the top exponent holds infinities and NaN; "fn": only the all-ones code is NaN, no infinities; "finite": neither.
    specials: Specials = "finite"
    integer_bits: int = 0
    fraction_bits: int = 0
    signed: bool = True
    #: Leave out the most negative two's complement value, so that the range is symmetric about zero.
    symmetric: bool = False

    def __post_init__(self) -> None:
        if self.kind == "float":
            _check_float(self)
        elif self.kind in ("fixed", "integer"):
            _check_fixed(self)
        else:
            raise UsageError(f"A format of kind {self.kind!r} does not exist; the kinds are 'float', 'fixed' and 'integer'.")

    @classmethod
    def float(
        cls,
        exponent_bits: int,
        significand_bits: int,
        *,
        bias: int | None = None,
        subnormals: bool = True,
        specials: Specials = "ieee",
    ) -> Self:
        """Return a binary floating-point format with sign; the bias is ``2**(exponent_bits - 1) - 1`` unless given."""
        if bias is None:
            bias = (1 << max(exponent_bits - 1, 0)) - 1
        return cls("float", exponent_bits, significand_bits, bias, subnormals, specials)

    @classmethod
    def fixed(cls, integer_bits: int, fraction_bits: int, signed: bool = True, *, symmetric: bool = False) -> Self:
        """Return the fixed-point format ``<IL,FL>``: the integers of IL + FL bits times ``2**-FL``; either may be negative."""
        return cls("fixed", integer_bits=integer_bits, fraction_bits=fraction_bits, signed=signed, symmetric=symmetric)

    @classmethod
    def integer(cls, bits: int, signed: bool = True, *, symmetric: bool = False) -> Self:
        """Return the integers of so many bits, two's complement when signed; a scale makes them an affine format."""
        return cls("integer", integer_bits=bits, signed=signed, symmetric=symmetric)

    @property
    def bits(self) -> int:
        """The total width of one stored value in bits."""
        if self.kind == "float":
            return 1 + self.exponent_bits + self.significand_bits
        return self.integer_bits + self.fraction_bits

    def __str__(self) -> str:
        """Return the text that `parse` reads back to an equal format."""
        if self.kind == "float":
            return _float_text(self)
        sign = "" if self.signed else "u"
        tail = ":symmetric" if self.symmetric else ""
        if self.kind == "integer":
            return f"{sign}int{self.integer_bits}{tail}"
        return f"{sign}fixed<{self.integer_bits},{self.fraction_bits}>{tail}"


def _float_text(fmt: Format) -> str:
    text = f"e{fmt.exponent_bits}m{fmt.significand_bits}"
    if fmt.specials != standard_specials(fmt.exponent_bits, fmt.significand_bits):
        text += fmt.specials
    if fmt.bias != (1 << (fmt.exponent_bits - 1)) - 1:
        text += f":bias={fmt.bias}"
    return text if fmt.subnormals else text + ":flush"


def _check_float(fmt: Format) -> None:
    e, m = fmt.exponent_bits, fmt.significand_bits
    name = f"float({e},{m})"
    if not 1 <= e <= 8:
        raise UsageError(f"{name}: exponent bits must be 1 to 8, since float32 carries the values; got {e}.")
    if not 0 <= m <= 23:
        raise UsageError(f"{name}: significand bits must be 0 to 23, since float32 carries the values; got {m}.")
    if fmt.specials not in ("ieee", "fn", "finite"):
        raise UsageError(f"{name}: specials must be 'ieee', 'fn' or 'finite'; got {fmt.specials!r}.")
    if not fmt.signed or fmt.symmetric or fmt.integer_bits or fmt.fraction_bits:
        raise UsageError(f"{name}: signed, symmetric, integer_bits and fraction_bits belong to fixed point and integers, not to floats.")
    if largest_code(fmt) < (1 if fmt.subnormals else 1 << m):
        raise UsageError(f"{name} with specials {fmt.specials!r} has no finite value but zero; give it more bits or specials='finite'.")
    if fmt.bias < -MAX_SCALE_BITS + 1:
        raise UsageError(f"{name}: the bias must be at least {1 - MAX_SCALE_BITS}, since float32 carries the values; got {fmt.bias}.")
    if 1 - fmt.bias < CARRIER_MIN_EXPONENT or (largest_code(fmt) >> m) - fmt.bias > CARRIER_MAX_EXPONENT:
        raise UsageError(
            f"{name} with bias {fmt.bias} and specials {fmt.specials!r} does not fit into float32: its normal numbers span "
            f"2^{1 - fmt.bias} to 2^{(largest_code(fmt) >> m) - fmt.bias}, float32's 2^{CARRIER_MIN_EXPONENT} to "
            f"2^{CARRIER_MAX_EXPONENT}. Take fewer exponent bits, another bias, or specials='ieee'."
        )


def largest_code(fmt: Format) -> int:
    """Return the code (sign left out) of a floating-point format's largest finite value."""
    codes = 1 << (fmt.exponent_bits + fmt.significand_bits)
    if fmt.specials == "ieee":
        return codes - (1 << fmt.significand_bits) - 1
    return codes - (2 if fmt.specials == "fn" else 1)


def _check_fixed(fmt: Format) -> None:
    name = ("" if fmt.signed else "u") + (
        f"fixed<{fmt.integer_bits},{fmt.fraction_bits}>" if fmt.kind == "fixed" else f"int{fmt.integer_bits}"
    )
    if fmt.exponent_bits or fmt.significand_bits or fmt.bias or fmt.specials != "finite" or not fmt.subnormals:
        raise UsageError(f"{name}: exponent, significand, bias, subnormals and specials belong to floats.")
    if fmt.symmetric and not fmt.signed:
        raise UsageError(f"{name}: an unsigned format cannot be symmetric.")
    low, high = (2, CARRIER_SIGNIFICAND_BITS + 1) if fmt.signed else (1, CARRIER_SIGNIFICAND_BITS)
    if not low <= fmt.bits <= high:
        sign = "a signed" if fmt.signed else "an unsigned"
        raise UsageError(f"{name}: {sign} format must have {low} to {high} bits, since float32 carries the values; got {fmt.bits}.")
    if not -MAX_SCALE_BITS <= fmt.fraction_bits <= MAX_SCALE_BITS:
        raise UsageError(
            f"{name}: fraction bits must be -{MAX_SCALE_BITS} to {MAX_SCALE_BITS}, since float32 carries the values; "
            f"got {fmt.fraction_bits}."
        )
