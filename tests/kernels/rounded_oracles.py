"""Rounded sums of products written out with `formats.round_scalar` and exact fractions, one number at a time; and inputs that tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from convsmith import formats
from convsmith.formats import Format
from convsmith.formats.random_bits import philox
from convsmith.kernels.arithmetic import Arithmetic

F32 = NDArray[np.float32]


def exact_add(a: float | Fraction, b: float | Fraction) -> float | Fraction:
    """Add exactly; infinities, NaN and signs of zero as IEEE 754 has them for nearest even."""
    if a == 0 and b == 0:
        return float(a) + float(b)
    if not all(isinstance(v, Fraction) or math.isfinite(v) for v in (a, b)):
        return float(a) + float(b)
    return Fraction(a) + Fraction(b)


def exact_multiply(a: float, b: float) -> float | Fraction:
    if a == 0 or b == 0 or not (math.isfinite(a) and math.isfinite(b)):
        return a * b
    return Fraction(a) * Fraction(b)


def key_of(seed: int, stream: int) -> tuple[int, int]:
    counter = (stream % 2**32, stream >> 32, 0x6E756F72, 0x21646564)
    words = philox(tuple(np.array([w], np.uint64) for w in counter), (seed % 2**32, seed >> 32))
    return int(words[0][0]), int(words[1][0])


class Scalar:
    """The rounded products and sums of one output."""

    def __init__(self, arithmetic: Arithmetic, element: int, key: tuple[int, int]) -> None:
        self.arithmetic, self.element, self.key = arithmetic, element, key

    def draw(self, kind: int, number: int) -> int:
        a = self.arithmetic
        if a.rounding != "stochastic":
            return 0
        width = 8 if a.random_bits <= 8 else 16 if a.random_bits <= 16 else 32
        pieces = 128 // width
        counter = (self.element % 2**32, self.element >> 32, number // pieces, kind)
        words = philox(tuple(np.array([w], np.uint64) for w in counter), self.key)
        everything = sum(int(word[0]) << 32 * i for i, word in enumerate(words))
        piece = everything >> number % pieces * width & (1 << width) - 1
        return piece >> width - a.random_bits

    def round(self, exact: float | Fraction, fmt: Format, kind: int, number: int) -> float:
        a = self.arithmetic
        return formats.round_scalar(exact, fmt, a.rounding, a.overflow, self.draw(kind, number), a.random_bits)  # type: ignore[arg-type]

    def product(self, a: float, b: float, term: int) -> float | Fraction:
        fmt = self.arithmetic.product_format
        exact = exact_multiply(a, b)
        return exact if fmt is None else self.round(exact, fmt, 0, term)

    def sum(self, a: float | Fraction, b: float | Fraction, number: int) -> float:
        return self.round(exact_add(a, b), self.arithmetic.format, 1, number)


def to_float32(exact: float | Fraction) -> float:
    return formats.round_scalar(exact, formats.CATALOGUE["fp32"], "nearest_even", "infinity")  # type: ignore[arg-type]


def dot(a: Sequence[float], b: Sequence[float], arithmetic: Arithmetic, element: int, key: tuple[int, int]) -> float:
    """One output, by the definitions in docs/arithmetic.md."""
    one = Scalar(arithmetic, element, key)
    products = [one.product(x, y, t) for t, (x, y) in enumerate(zip(a, b, strict=True))]
    total = 0.0
    match arithmetic.order:
        case "sequential":
            for t, p in enumerate(products):
                total = one.sum(total, p, t)
        case "blocked":
            for number, first in enumerate(range(0, len(products), arithmetic.block)):
                inner = 0.0
                for p in products[first : first + arithmetic.block]:
                    inner = to_float32(exact_add(inner, p))
                total = one.sum(total, inner, number)
        case "kahan":
            carried = 0.0
            for t, p in enumerate(products):
                y = one.sum(-carried, p, 4 * t)
                new = one.sum(total, y, 4 * t + 1)
                carried = one.sum(one.sum(new, -total, 4 * t + 2), -y, 4 * t + 3)
                total = new
        case "pairwise":
            total = _tree(products, one)
    return math.nan if math.isnan(total) else total


def _tree(products: list[float | Fraction], one: Scalar) -> float:
    """Sum in the order of the additions' numbers: those completed by each new term, innermost first, and the rest at the end."""
    if len(products) < 2:
        return one.sum(0.0, products[0], 0) if products else 0.0
    levels = [list(range(len(products)))]
    value: dict[tuple[int, int], float | Fraction] = {(i, i + 1): p for i, p in enumerate(products)}
    spans = [(i, i + 1) for i in levels[0]]
    rounds: list[tuple[tuple[int, int], tuple[int, int]]] = []
    while len(spans) > 1:
        paired = [(spans[i], spans[i + 1]) for i in range(0, len(spans) - 1, 2)]
        rounds += paired
        spans = [(left[0], right[1]) for left, right in paired] + ([spans[-1]] if len(spans) % 2 else [])

    def full(pair: tuple[tuple[int, int], tuple[int, int]]) -> bool:
        size = pair[1][1] - pair[0][0]
        return size & (size - 1) == 0 and pair[0][0] % size == 0

    # A complete power of two is summed when its last term comes; the others wait for the end, smallest first.
    rounds.sort(key=lambda pair: (not full(pair), pair[1][1] if full(pair) else 0, pair[1][1] - pair[0][0]))
    for number, (left, right) in enumerate(rounds):
        value[left[0], right[1]] = one.sum(value[left], value[right], number)
    return float(value[0, len(products)])


def product_oracle(a_mk: F32, b_kn: F32, arithmetic: Arithmetic, seed: int = 0, stream: int = 0) -> F32:
    """The whole matrix product."""
    (m, _), n = a_mk.shape, b_kn.shape[1]
    key = key_of(seed, stream)
    out = np.zeros((m, n), np.float32)
    for i in range(m):
        for j in range(n):
            out[i, j] = dot([float(v) for v in a_mk[i]], [float(v) for v in b_kn[:, j]], arithmetic, i * n + j, key)
    return out


def telling_factors(shape: tuple[int, int], fmt: Format, seed: int, *, inside: bool = True) -> F32:
    """Numbers of a format over its range, ties, zeros of both signs; not of the format unless ``inside``."""
    rng = np.random.default_rng(seed)
    top, least = math.log2(formats.max_value(fmt)), math.log2(formats.smallest_positive(fmt))
    middle = 0.0 if least < 0 < top else (top + least) / 2
    spread = rng.choice([0.3, 1.5, 6.0], size=shape)
    exponent = np.clip(rng.normal(middle, spread), least / 2 - 2, top / 2 + 2)
    x = rng.choice([-1.0, 1.0], size=shape) * np.exp2(exponent)
    x[rng.random(shape) < 0.08] = 0.0
    x[rng.random(shape) < 0.04] *= -0.0
    x = x.astype(np.float32)
    return formats.round_array(x, fmt) if inside else x
