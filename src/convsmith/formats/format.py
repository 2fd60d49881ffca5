"""What a number is: one frozen record for floating point, fixed point, integers, binary values and blocks with a shared exponent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, Self

from convsmith.formats.validity import check, fits_float32

Kind = Literal["float", "fixed", "integer", "binary", "block"]
Specials = Literal["ieee", "fn", "finite", "fnuz", "extended"]
Carrier = Literal["float32", "float64"]
ScaleRule = Literal["floor", "fit"]

#: Element formats of OCP MX 1.0 that have neither infinities nor NaN; their usual short names mean these.
FINITE_BY_STANDARD: Final = frozenset({(3, 2), (2, 3), (2, 1)})


def standard_specials(exponent_bits: int, significand_bits: int) -> Specials:
    """Return what a bare ``eXmY`` means in text: IEEE rules, but the OCP meaning for e3m2, e2m3 and e2m1."""
    return "finite" if (exponent_bits, significand_bits) in FINITE_BY_STANDARD else "ieee"


def standard_bias(exponent_bits: int, specials: Specials) -> int:
    """Return the bias of a float without a bias of its own: one half of the codes lie below 1, or below 2."""
    half = 1 << max(exponent_bits - 1, 0)
    return half if specials in ("fnuz", "extended") else half - 1


@dataclass(frozen=True, slots=True)
class Format:
    """A number format as data. Build it with `Format.float`, `fixed`, `integer`, `binary`, `block`, or with `parse`.

    Every value of a format is also a value of its `carrier`, float32 or float64, so that emulation can carry it without a second rounding;
    a format that fits into neither is refused.

    Units: widths and exponents in bits and powers of two. ``significand_bits`` counts the stored fraction bits (10 for fp16).
    ``integer_bits`` of a signed fixed-point format includes the sign bit: ``<IL,FL>`` covers [-2^(IL-1), 2^(IL-1) - 2^-FL].
    References: IEEE 754-2019, section 3; OCP 8-bit floating point 1.0 (the "fn" rule); OCP MX 1.0 (the "finite" rule, blocks);
    IEEE P3109 (the "extended" rule); Gupta et al. 2015, arXiv 1502.02551 (``<IL,FL>``).
    Raises: UsageError for a format that cannot exist or that no carrier holds.
    """

    kind: Kind
    exponent_bits: int = 0
    significand_bits: int = 0
    bias: int = 0
    subnormals: bool = True
    #: "ieee": the top exponent holds infinities and NaN; "fn": only the all-ones code is NaN, no infinities; "finite": neither;
    #: "fnuz": the code of negative zero is NaN, no infinities; "extended": one infinity a sign in the highest code, NaN in that of
    #: negative zero, or, unsigned, in the all-ones code with the infinity below it.
    specials: Specials = "finite"
    integer_bits: int = 0
    fraction_bits: int = 0
    signed: bool = True
    #: Leave out the most negative two's complement value, so that the range is symmetric about zero.
    symmetric: bool = False
    #: Exponent field 0 is an exponent like the others: no subnormal numbers, one more binade.
    all_normal: bool = False
    #: False: code 0 is no zero but the smallest number, as in a scale.
    zero: bool = True
    #: The format of one element of a block, of how many elements, with which shared scale, found how: "floor" takes the exponent of the
    #: largest magnitude less that of the largest element value, "fit" the least exponent at which the largest magnitude is in range.
    element: Format | None = None
    block_size: int = 0
    scale: Format | None = None
    rule: ScaleRule = "floor"

    def __post_init__(self) -> None:
        check(self)

    @classmethod
    def float(
        cls,
        exponent_bits: int,
        significand_bits: int,
        *,
        bias: int | None = None,
        subnormals: bool = True,
        specials: Specials = "ieee",
        signed: bool = True,
        all_normal: bool = False,
        zero: bool = True,
    ) -> Self:
        """Return a binary floating-point format; the bias is ``2**(exponent_bits - 1) - 1``, or one more for "fnuz" and "extended"."""
        if bias is None:
            bias = standard_bias(exponent_bits, specials)
        return cls("float", exponent_bits, significand_bits, bias, subnormals, specials, signed=signed, all_normal=all_normal, zero=zero)

    @classmethod
    def fixed(cls, integer_bits: int, fraction_bits: int, signed: bool = True, *, symmetric: bool = False) -> Self:
        """Return the fixed-point format ``<IL,FL>``: the integers of IL + FL bits times ``2**-FL``; either may be negative."""
        return cls("fixed", integer_bits=integer_bits, fraction_bits=fraction_bits, signed=signed, symmetric=symmetric)

    @classmethod
    def integer(cls, bits: int, signed: bool = True, *, symmetric: bool = False) -> Self:
        """Return the integers of so many bits, two's complement when signed; a scale makes them an affine format."""
        return cls("integer", integer_bits=bits, signed=signed, symmetric=symmetric)

    @classmethod
    def binary(cls) -> Self:
        """Return the format of the two values -1 and +1; a scale makes them others."""
        return cls("binary", symmetric=True)

    @classmethod
    def block(cls, element: Format, size: int = 32, *, scale: Format | None = None, rule: ScaleRule = "floor") -> Self:
        """Return the format of ``size`` elements along an axis that share a power of two, by default OCP's 8-bit one."""
        return cls("block", element=element, block_size=size, scale=scale or SHARED_EXPONENT, rule=rule)

    @property
    def bits(self) -> int:
        """The width of one stored value in bits; of a block format that of an element, its share of the scale left out."""
        if self.element is not None:
            return self.element.bits
        if self.kind == "float":
            return self.signed + self.exponent_bits + self.significand_bits
        return 1 if self.kind == "binary" else self.integer_bits + self.fraction_bits

    @property
    def bits_per_value(self) -> Real:
        """The mean width of one stored value in bits, in full blocks with the share of the scale."""
        return self.bits + (self.scale.bits / self.block_size if self.scale is not None else 0.0)

    @property
    def carrier(self) -> Carrier:
        """The narrower of float32 and float64 that holds every value of the format."""
        return "float32" if fits_float32(self) else "float64"

    @property
    def has_infinity(self) -> bool:
        """Whether the format has infinities."""
        return self.specials in ("ieee", "extended")

    @property
    def has_nan(self) -> bool:
        """Whether the format has a code for NaN; that of a block format is in its scale."""
        return self.specials not in ("finite", "ieee") or (self.specials == "ieee" and self.significand_bits > 0) or self.kind == "block"

    @property
    def negative_zero(self) -> bool:
        """Whether zero has a sign."""
        if self.element is not None:
            return self.element.negative_zero
        return self.kind == "float" and self.signed and self.specials not in ("fnuz", "extended")

    def __str__(self) -> str:
        """Return the text that `parse` reads back to an equal format."""
        if self.kind == "binary":
            return "binary"
        if self.element is not None:
            scale = "" if self.scale == SHARED_EXPONENT else f",{self.scale}"
            return f"block<{self.element},{self.block_size}{scale}>" + ("" if self.rule == "floor" else f":{self.rule}")
        if self.kind == "float":
            return _float_text(self)
        sign = "" if self.signed else "u"
        tail = ":symmetric" if self.symmetric else ""
        if self.kind == "integer":
            return f"{sign}int{self.integer_bits}{tail}"
        return f"{sign}fixed<{self.integer_bits},{self.fraction_bits}>{tail}"


def _float_text(fmt: Format) -> str:
    if fmt == SHARED_EXPONENT:
        return "e8m0"
    e, m = fmt.exponent_bits, fmt.significand_bits
    text = f"{'' if fmt.signed else 'u'}e{e}m{m}"
    if fmt.specials != standard_specials(e, m) or text == "e8m0":
        text += fmt.specials
    if fmt.bias != standard_bias(e, fmt.specials):
        text += f":bias={fmt.bias}"
    if fmt.all_normal:
        return text + (":normal" if fmt.zero else ":nozero")
    return text if fmt.subnormals else text + ":flush"


#: Annotations inside `Format` cannot name the type: `Format.float` hides it there.
Real = float

#: OCP MX 1.0, section 5.4.1: E8M0, the powers of two from 2^-127 to 2^127 and NaN, without sign and zero.
SHARED_EXPONENT: Final = Format.float(8, 0, subnormals=False, specials="fn", signed=False, all_normal=True, zero=False)
