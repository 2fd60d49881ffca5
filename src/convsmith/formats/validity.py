"""Which formats can exist, and which carrier holds their values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from convsmith.errors import UnsupportedError, UsageError

if TYPE_CHECKING:
    from convsmith.formats.format import Format

#: Exponents of the normal numbers of float32 and float64, the carriers of every emulated value.
MIN_EXPONENT_32: Final = -126
MAX_EXPONENT_32: Final = 127
MIN_EXPONENT_64: Final = -1022
MAX_EXPONENT_64: Final = 1023
SIGNIFICAND_BITS_32: Final = 24
SIGNIFICAND_BITS_64: Final = 53

#: Steps of fixed point, and the smallest normal number of a float, may not be beyond two to this power, so that 2^23 steps are in float32
#: and 2^52 steps of a wider format in float64, with room for a scaling by the period of a wrapping format.
MAX_SCALE_BITS_32: Final = 100
MAX_SCALE_BITS: Final = 200

SPECIALS: Final = ("ieee", "fn", "finite", "fnuz", "extended")
_OF_FLOATS: Final = (("exponent_bits", 0), ("significand_bits", 0), ("bias", 0), ("subnormals", True), ("specials", "finite"))
_OF_FIXED: Final = (("integer_bits", 0), ("fraction_bits", 0), ("symmetric", False))
_OF_BLOCKS: Final = (("element", None), ("block_size", 0), ("scale", None), ("rule", "floor"))
_OF_ODD_FLOATS: Final = (("all_normal", False), ("zero", True))


def check(fmt: Format) -> None:
    """Refuse a format that cannot exist."""
    if fmt.kind == "float":
        _check_float(fmt)
    elif fmt.kind in ("fixed", "integer"):
        _check_fixed(fmt)
    elif fmt.kind == "binary":
        _only(fmt, "binary", (*_OF_FLOATS, *_OF_ODD_FLOATS, *_OF_FIXED[:2], *_OF_BLOCKS), "floats, fixed point and blocks")
    elif fmt.kind == "block":
        _check_block(fmt)
    else:
        raise UsageError(f"A format of kind {fmt.kind!r} does not exist; the kinds are 'float', 'fixed', 'integer', 'binary' and 'block'.")


def _only(fmt: Format, name: str, absent: tuple[tuple[str, object], ...], owner: str) -> None:
    """Refuse fields that belong to another kind."""
    if any(getattr(fmt, field) != usual for field, usual in absent):
        fields = ", ".join(field for field, _ in absent)
        raise UsageError(f"{name}: {fields} belong to {owner}.")


def largest_code(fmt: Format) -> int:
    """Return the code (sign left out) of a floating-point format's largest finite value."""
    codes = 1 << (fmt.exponent_bits + fmt.significand_bits)
    above = {
        "ieee": 1 << fmt.significand_bits,
        "fn": 1,
        "finite": 0,
        "fnuz": 0,
        "extended": 1 if fmt.signed else 2,
    }[fmt.specials]
    return codes - 1 - above


def lowest_exponent(fmt: Format) -> int:
    """Return the exponent of the lowest binade of normal numbers."""
    return -fmt.bias if fmt.all_normal else 1 - fmt.bias


def highest_exponent(fmt: Format) -> int:
    """Return the exponent of the largest finite value of a float; of a subnormal one that of the lowest binade."""
    field = largest_code(fmt) >> fmt.significand_bits
    return max(field, 0 if fmt.all_normal else 1) - fmt.bias


def _check_float(fmt: Format) -> None:
    e, m = fmt.exponent_bits, fmt.significand_bits
    name = f"float({e},{m})"
    if not 1 <= e <= 11:
        raise UsageError(f"{name}: exponent bits must be 1 to 11, since float64 carries the widest values; got {e}.")
    if not 0 <= m <= 52:
        raise UsageError(f"{name}: significand bits must be 0 to 52, since float64 carries the widest values; got {m}.")
    if fmt.specials not in SPECIALS:
        raise UsageError(f"{name}: specials must be {', '.join(map(repr, SPECIALS))}; got {fmt.specials!r}.")
    _only(fmt, name, _OF_FIXED, "fixed point and integers, not to floats")
    _only(fmt, name, _OF_BLOCKS, "blocks")
    if fmt.specials == "fnuz" and not fmt.signed:
        raise UsageError(f"{name}: 'fnuz' puts NaN in the code of negative zero, and an unsigned format has none: take 'fn'.")
    _check_bottom(fmt, name)
    smallest = 1 << m if not (fmt.subnormals or fmt.all_normal) else 1 if fmt.zero else 0
    if largest_code(fmt) < smallest:
        raise UsageError(f"{name} with specials {fmt.specials!r} has no finite value but zero; give it more bits or specials='finite'.")
    low, high = lowest_exponent(fmt), highest_exponent(fmt)
    if low > MAX_SCALE_BITS:
        raise UsageError(f"{name}: the smallest normal number must be at most 2^{MAX_SCALE_BITS}; with bias {fmt.bias} it is 2^{low}.")
    if low < MIN_EXPONENT_64 or high > MAX_EXPONENT_64:
        raise UsageError(
            f"{name} with bias {fmt.bias} and specials {fmt.specials!r} does not fit into float64: its normal numbers span "
            f"2^{low} to 2^{high}, float64's 2^{MIN_EXPONENT_64} to "
            f"2^{MAX_EXPONENT_64}. Take fewer exponent bits, another bias, or specials='ieee'."
        )
    if fmt.all_normal and not fits_float32(fmt):
        raise UsageError(f"{name}: a format without subnormal codes must fit into float32; this one spans 2^{low} to 2^{high}.")


def _check_bottom(fmt: Format, name: str) -> None:
    """Refuse contradictions about the codes around zero."""
    if fmt.all_normal and fmt.subnormals:
        raise UsageError(f"{name}: all_normal=True leaves no code for subnormals; give subnormals=False too.")
    if not fmt.zero and (fmt.signed or not fmt.all_normal):
        raise UsageError(f"{name}: zero=False is for unsigned formats with all_normal=True, whose code 0 is their smallest number.")
    if fmt.all_normal and fmt.zero and fmt.significand_bits == 0:
        raise UsageError(f"{name}: without fraction bits, all_normal=True with a zero is the same as the ordinary format; leave it out.")


def _check_fixed(fmt: Format) -> None:
    name = ("" if fmt.signed else "u") + (
        f"fixed<{fmt.integer_bits},{fmt.fraction_bits}>" if fmt.kind == "fixed" else f"int{fmt.integer_bits}"
    )
    _only(fmt, name, (*_OF_FLOATS, *_OF_ODD_FLOATS), "floats")
    _only(fmt, name, _OF_BLOCKS, "blocks")
    if fmt.symmetric and not fmt.signed:
        raise UsageError(f"{name}: an unsigned format cannot be symmetric.")
    low, high = (2, SIGNIFICAND_BITS_64 + 1) if fmt.signed else (1, SIGNIFICAND_BITS_64)
    if not low <= fmt.bits <= high:
        sign = "a signed" if fmt.signed else "an unsigned"
        raise UsageError(f"{name}: {sign} format must have {low} to {high} bits, since float64 carries the widest values; got {fmt.bits}.")
    if not -MAX_SCALE_BITS <= fmt.fraction_bits <= MAX_SCALE_BITS:
        raise UsageError(f"{name}: fraction bits must be -{MAX_SCALE_BITS} to {MAX_SCALE_BITS}; got {fmt.fraction_bits}.")


def _check_block(fmt: Format) -> None:
    element, scale = fmt.element, fmt.scale
    if element is None or scale is None or element.kind not in ("float", "fixed", "integer"):
        raise UsageError(f"A block format needs elements that are floats, fixed point or integers, and a scale; got {element} and {scale}.")
    name = f"block<{element},{fmt.block_size}>"
    _only(fmt, name, (*_OF_FLOATS, *_OF_ODD_FLOATS, *_OF_FIXED), "its element")
    if not 1 <= fmt.block_size <= 1 << 16:
        raise UsageError(f"{name}: a block has 1 to 65536 elements; got {fmt.block_size}.")
    if fmt.rule not in ("floor", "fit"):
        raise UsageError(f"{name}: the rule must be 'floor' or 'fit'; got {fmt.rule!r}.")
    if not element.signed or not element.zero or element.all_normal:
        raise UsageError(f"{name}: the elements must be signed and have an ordinary zero.")
    if scale.kind != "float" or scale.signed or scale.zero or scale.significand_bits or scale.exponent_bits > 8:
        raise UnsupportedError(
            f"{name}: the shared scale must be a power of two, an unsigned float without fraction bits and zero such as e8m0; got {scale}."
        )
    least = lowest_exponent(scale) + _step_exponent(element)
    most = highest_exponent(scale)
    if not fits_float32(element) or least < MIN_EXPONENT_32 - SIGNIFICAND_BITS_32 + 1 or most > MAX_EXPONENT_32:
        raise UsageError(f"{name} does not fit into float32: its smallest value is 2^{least}. Take a narrower element or scale.")


def _step_exponent(fmt: Format) -> int:
    """Return the exponent of the smallest positive value, a power of two in these formats."""
    if fmt.kind != "float":
        return -fmt.fraction_bits
    return 1 - fmt.bias - (fmt.significand_bits if fmt.subnormals else 0)


def fits_float32(fmt: Format) -> bool:
    """Tell whether every value of the format is a float32 value, subnormal ones of float32 included."""
    if fmt.kind == "float":
        least = lowest_exponent(fmt) - fmt.significand_bits
        narrow = fmt.significand_bits < SIGNIFICAND_BITS_32 and highest_exponent(fmt) <= MAX_EXPONENT_32
        return narrow and least >= MIN_EXPONENT_32 - SIGNIFICAND_BITS_32 + 1
    if fmt.kind in ("fixed", "integer"):
        return fmt.bits - fmt.signed <= SIGNIFICAND_BITS_32 and abs(fmt.fraction_bits) <= MAX_SCALE_BITS_32
    return True
