"""Rounded products and sums in NumPy, one term after the other: the specification of the native kernels, and the fallback without them.

Every number is a float64 between roundings. A product of two float32 numbers is exact there. A sum is not, so it is rounded to odd: such a
result of 53 bits rounds to any format of at most 24 bits, in any mode, with up to 24 random bits, as the exact sum would.

References: Boldo and Melquiond 2008, "Emulation of a FMA and correctly rounded sums: proved algorithms using rounding to odd",
doi 10.1109/TC.2007.70819.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from convsmith.formats.constants import Constants, constants
from convsmith.formats.format import Format
from convsmith.formats.modes import ROUNDINGS
from convsmith.formats.twin import round_values
from convsmith.kernels.arithmetic import Arithmetic
from convsmith.kernels.rounded_random import PRODUCT, SUM, draws
from convsmith.kernels.rounded_tables import Product

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

_STOCHASTIC: Final = ROUNDINGS.index("stochastic")
#: Products of float32 numbers have 48 bits: from so many steps up they are whole steps.
_WHOLE_STEPS: Final = 2.0**48


def to_odd(nearest: F64, error: F64) -> F64:
    """Return the odd one of the two neighbours of an exact value: ``nearest``, or the next number in the direction of the error's sign."""
    code = nearest.view(np.uint64)
    move = np.isfinite(nearest) & ((error > 0) | (error < 0)) & (code & np.uint64(1) == 0)
    outwards = (error > 0) == ~np.signbit(nearest)
    odd = np.where(outwards, code + np.uint64(1), code - np.uint64(1)).view(np.float64)
    return np.where(move, odd, nearest)


def odd_sum(a: F64, b: F64) -> F64:
    """Return a + b rounded to odd: the exact sum, or else that of its two neighbours whose last bit is 1."""
    total: F64 = a + b
    part = total - a
    return to_odd(total, (a - (total - part)) + (b - part))


class Rounder:
    """One arithmetic on an array of outputs: its rounded products and sums."""

    def __init__(self, arithmetic: Arithmetic, elements: NDArray[np.uint64], key: tuple[int, int]) -> None:
        self.arithmetic, self.elements, self.key = arithmetic, elements, key
        self.sums = self._spec(arithmetic.format)
        self.products = None if arithmetic.product_format is None else self._spec(arithmetic.product_format)

    def _spec(self, fmt: Format) -> Constants:
        return constants(fmt, self.arithmetic.rounding, self.arithmetic.overflow, self.arithmetic.random_bits)

    def _round(self, exact: F64, spec: Constants, kind: int, number: int) -> F64:
        words = draws(self.elements, kind, number, self.arithmetic.draw_width, self.key) if spec.mode == _STOCHASTIC else None
        return round_values(exact, spec, words)

    def product(self, a: F64, b: F64, term: int) -> F64:
        """Return the product of a term, exact where the arithmetic does not round products."""
        exact = a * b
        return exact if self.products is None else self._round(exact, self.products, PRODUCT, term)

    def sum(self, a: F64, b: F64, number: int) -> F64:
        """Return the rounded sum."""
        if self.sums.wrap_bits:
            # What is whole steps needs no rounding, and is reduced before the sum could drop the bits that remain.
            step = 2.0**self.sums.step_exponent
            b = np.where(np.abs(b) >= _WHOLE_STEPS * step, np.fmod(b, 2.0**self.sums.wrap_bits * step), b)
        return self._round(odd_sum(a, b), self.sums, SUM, number)


def reduce_terms(products: Iterator[F64], rounder: Rounder) -> F64:
    """Sum products in the arithmetic's order; no terms sum to +0."""
    zero = np.zeros(rounder.elements.shape)
    match rounder.arithmetic.order:
        case "sequential":
            total = zero
            for term, product in enumerate(products):
                total = rounder.sum(total, product, term)
        case "pairwise":
            total = _pairwise(products, rounder, zero)
        case "blocked":
            total = _blocked(products, rounder, zero)
        case "kahan":
            total = _kahan(products, rounder, zero)
    return total


def _pairwise(products: Iterator[F64], rounder: Rounder, zero: F64) -> F64:
    """Sum neighbours, then neighbours of those sums, and so on; an odd one out moves up unchanged. A single product is added to 0."""
    waiting: list[tuple[int, F64]] = []
    sums = 0
    for product in products:
        level, value = 0, product
        while waiting and waiting[-1][0] == level:
            value = rounder.sum(waiting.pop()[1], value, sums)
            level, sums = level + 1, sums + 1
        waiting.append((level, value))
    if not waiting:
        return zero
    total = waiting.pop()[1]
    for _, earlier in reversed(waiting):
        total = rounder.sum(earlier, total, sums)
        sums += 1
    return total if sums else rounder.sum(zero, total, 0)


def _blocked(products: Iterator[F64], rounder: Rounder, zero: F64) -> F64:
    """Sum the terms of a block in float32, nearest even, from 0; add each block's sum to the total in the format."""
    total, inner, block, term = zero, zero, rounder.arithmetic.block, 0
    for term, product in enumerate(products, 1):
        inner = odd_sum(inner, product).astype(np.float32).astype(np.float64)
        if term % block == 0:
            total, inner = rounder.sum(total, inner, term // block - 1), zero
    return rounder.sum(total, inner, term // block) if term % block else total


def _kahan(products: Iterator[F64], rounder: Rounder, zero: F64) -> F64:
    """Carry the rounding error of the last sum along: ``y = p - c; t = s + y; c = (t - s) - y; s = t``, each rounded to the format."""
    total = carried = zero
    for term, product in enumerate(products):
        y = rounder.sum(-carried, product, 4 * term)
        new = rounder.sum(total, y, 4 * term + 1)
        carried = rounder.sum(rounder.sum(new, -total, 4 * term + 2), -y, 4 * term + 3)
        total = new
    return total


def multiply_gathered(a: F32, b: F32, out: F32, product: Product, arithmetic: Arithmetic, key: tuple[int, int]) -> None:
    """Compute one gathered product (`rounded_tables`) of flat arrays into a flat array; NaN results are the positive quiet NaN."""
    for group in range(product.groups):
        elements = group * product.out_group + product.out_rows[:, None] + product.out_columns
        rounder = Rounder(arithmetic, elements.astype(np.uint64), key)
        with np.errstate(all="ignore"):
            total = reduce_terms(_products(a, b, product, group, rounder), rounder)
        out[elements] = np.where(np.isnan(total), np.nan, total)


def _products(a: F32, b: F32, product: Product, group: int, rounder: Rounder) -> Iterator[F64]:
    rows, columns = group * product.a_group + product.a_rows, group * product.b_group + product.b_columns
    for t in range(product.a_terms.size):
        y, x = product.column_y + product.term_y[t], product.column_x + product.term_x[t]
        inside = (y >= 0) & (y < product.height) & (x >= 0) & (x < product.width)
        second = np.zeros(columns.shape, np.float64)
        second[inside] = b[columns[inside] + product.b_terms[t]]
        first: NDArray[Any] = a[rows + product.a_terms[t]].astype(np.float64)
        yield rounder.product(first[:, None], second, t)
