"""How the multiplies and adds of a kernel are rounded: one frozen record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, get_args

from convsmith import formats
from convsmith.errors import UnsupportedError, UsageError, near
from convsmith.formats import Format, Overflow, Rounding
from convsmith.formats.modes import check_modes

Order = Literal["sequential", "pairwise", "blocked", "kahan"]
ORDERS: Final[tuple[Order, ...]] = get_args(Order)

#: Widths of the pieces of a random word that one rounding draws: the narrowest that holds its random bits.
DRAW_WIDTHS: Final = (8, 16, 32)


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """Formats, rounding and order of the products and sums of a reduction; docs/arithmetic.md says what each field does.

    ``format`` is that of every sum. ``product`` is that of every product: "same", another format, or None for a fused multiply-add,
    which rounds once after the exact product and the exact sum. ``rounding``, ``overflow`` and ``random_bits`` hold for both.
    ``order`` is the order of the sums; ``block`` terms at a time are summed in float32 when it is "blocked".
    Raises: UsageError for a combination that cannot be.
    """

    format: Format
    product: Format | Literal["same"] | None = "same"
    rounding: Rounding = "nearest_even"
    overflow: Overflow = "saturate"
    random_bits: int = 8
    order: Order = "sequential"
    block: int = 64

    def __post_init__(self) -> None:
        for name, given in (("format", self.format), ("product", self.product)):
            if not isinstance(given, Format) and not (name == "product" and (given is None or given == "same")):
                allowed = "a Format" if name == "format" else 'a Format, "same", or None for a fused multiply-add'
                raise UsageError(f"{name} must be {allowed}; got {given!r}. convsmith.formats.parse makes a Format of a text.")
            if isinstance(given, Format) and (given.kind in ("binary", "block") or given.carrier != "float32" or given.all_normal):
                raise UnsupportedError(
                    f"No arithmetic in {given}: {name} must be a float with a zero and without all_normal, fixed point or integer, and "
                    "float32 must hold its values."
                )
        check_modes(self.format, self.rounding, self.overflow, self.random_bits)
        check_modes(self.product_format or self.format, self.rounding, self.overflow, self.random_bits)
        if self.order not in ORDERS:
            raise UsageError(f"Unknown order {self.order!r}.{near(self.order, ORDERS)} The orders are {', '.join(ORDERS)}.")
        if self.order == "pairwise" and self.product is None:
            raise UsageError(
                "order='pairwise' adds sums to sums, so there is no product to fuse: give the products a format, or take another order."
            )
        if not isinstance(self.block, int) or not 1 <= self.block < 1 << 31:
            raise UsageError(f"block must be a whole number of terms from 1 to 2^31 - 1; got {self.block!r}.")

    @property
    def product_format(self) -> Format | None:
        """The format of products; None where they are not rounded."""
        return self.format if self.product == "same" else self.product

    @property
    def draw_width(self) -> int:
        """Random bits that one rounding takes from its word: 8, 16 or 32, of which the top ``random_bits`` count."""
        return next(width for width in DRAW_WIDTHS if width >= self.random_bits)

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON values; formats become their texts."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: str(value) if isinstance(value, Format) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Arithmetic:
        """Read what `to_dict` wrote; `UsageError` names an unknown or missing field."""
        known = [field.name for field in fields(cls)]
        for key in values:
            if key not in known:
                raise UsageError(f"an arithmetic has no field {key!r}; it has {', '.join(known)}.{near(key, known)}")
        if "format" not in values:
            raise UsageError(f"an arithmetic needs the field 'format'; got {', '.join(values) or 'none'}")
        read = dict(values)
        for key in ("format", "product"):
            if isinstance(read.get(key), str) and not (key == "product" and read[key] == "same"):
                read[key] = formats.parse(read[key])
        return cls(**read)
