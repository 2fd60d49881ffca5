"""Bounds of rounded sums against exact fractions, over every order of additions of few terms; bounds that are too small are caught."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from convsmith import formats
from convsmith.formats import Format
from convsmith.kernels import rounded
from convsmith.kernels.arithmetic import Arithmetic
from convsmith.precision.certificate import Roundoff, SumBound, probable, roundoff, worst
from convsmith.precision.certificate.roundoff import azuma_factor, kahan

Round = Callable[[Fraction], Fraction]

SMALL = Format.float(4, 3, specials="fn")
TINY = Format.float(5, 1)


def rounder(fmt: Format, rounding: formats.Rounding) -> Round:
    return lambda x: Fraction(formats.round_scalar(x, fmt, rounding, "saturate"))


def trees(values: tuple[Fraction, ...], add: Round) -> Iterator[Fraction]:
    """Yield the result of every order: any two of the values are added, again and again."""
    if len(values) == 1:
        yield values[0]
        return
    for i, j in itertools.combinations(range(len(values)), 2):
        rest = tuple(value for k, value in enumerate(values) if k not in (i, j))
        yield from trees((*rest, add(values[i] + values[j])), add)


def kahan_sum(products: list[Fraction], fl: Round) -> tuple[Fraction, Fraction]:
    """Return the compensated sum and the largest number that is stored."""
    s = c = largest = Fraction(0)
    for p in products:
        y = fl(p - c)
        t = fl(s + y)
        d = fl(t - s)
        c = fl(d - y)
        s = t
        largest = max(largest, abs(y), abs(t), abs(d), abs(c))
    return s, largest


def limits(bound: SumBound, count: int, m: Fraction, s: Fraction) -> float:
    """Return the smaller of the two bounds of a tree."""
    return float(min(bound.tree_error(count, float(m), float(abs(s)))))


def numbers(fmt: Format, n: int, seed: int, low: float = 0.02, high: float = 2.0) -> list[Fraction]:
    rng = np.random.default_rng(seed)
    x = rng.uniform(low, high, n) * rng.choice([-1, 1], n)
    return [Fraction(float(value)) for value in formats.round_array(x, fmt)]


@pytest.mark.parametrize("rounding", ["nearest_even", "nearest_away", "toward_zero", "up", "down", "to_odd"])
@pytest.mark.parametrize("fmt", [SMALL, TINY, Format.float(4, 3, specials="fn", subnormals=False), Format.fixed(3, 4)], ids=str)
def test_one_rounding_is_within_its_bound(fmt, rounding) -> None:
    """Every number of a finer grid, the subnormal range included."""
    found, top = roundoff(fmt, rounding), formats.max_value(fmt)
    x = np.concatenate([np.linspace(-top, top, 20001), np.linspace(-8, 8, 5001) * formats.smallest_normal(fmt)])
    x = x[np.abs(x) <= found.limit]
    error = np.abs(formats.round_array(x, fmt, rounding).astype(np.float64) - x)
    limit = found.relative * np.abs(x) + found.absolute
    assert (error <= limit).all()
    assert (error / limit).max() > 0.6, "the bound is not loose"


@pytest.mark.parametrize("rounding", ["nearest_even", "toward_zero", "up"])
@pytest.mark.parametrize("fmt", [SMALL, TINY], ids=str)
def test_every_order_of_five_terms_is_within_the_bound(fmt, rounding) -> None:
    fl, unit = rounder(fmt, rounding), roundoff(fmt, rounding)
    bound = worst(5, unit, unit)
    for seed in range(4):
        a, b = numbers(fmt, 5, seed), numbers(fmt, 5, seed + 100)
        exact = [x * y for x, y in zip(a, b, strict=True)]
        total, m = sum(exact, Fraction(0)), sum(map(abs, exact), Fraction(0))
        results = set(trees(tuple(fl(p) for p in exact), fl))
        assert max(abs(result - total) for result in results) <= limits(bound, 5, m, total)
        assert max(map(abs, results)) <= bound.reach * float(m) + bound.reach_absolute


@pytest.mark.parametrize("n", [16, 64, 200])
def test_lost_additions_reach_the_bound_and_break_a_part_of_it(n) -> None:
    """One and many halves of its last place: each addition to nearest even loses its term, as the bound allows."""
    fmt = Format.float(8, 7)
    fl, unit = rounder(fmt, "nearest_even"), roundoff(fmt)
    terms = [Fraction(1)] + [Fraction(1, 256)] * (n - 1)
    s = Fraction(0)
    for term in terms:
        s = fl(s + term)
    total = sum(terms, Fraction(0))
    error, bound = total - s, worst(n, Roundoff(0.0, 0.0), unit)
    assert error == Fraction(n - 1, 256) and error <= limits(bound, n, total, total)
    smaller = replace(bound, addition=bound.addition / 3, relative=bound.relative / 3)
    assert error > limits(smaller, n, total, total), "a third of the bound does not hold"


@pytest.mark.parametrize("rounding", ["nearest_even", "toward_zero", "down", "to_odd"])
@pytest.mark.parametrize("n", [1, 2, 7, 40])
def test_compensated_sums_are_within_their_bound(n, rounding) -> None:
    fmt = Format.float(6, 6)
    fl, unit = rounder(fmt, rounding), roundoff(fmt, rounding)
    bound = kahan(n, unit, unit)
    largest_ratio = 0.0
    for seed in range(20):
        a, b = numbers(fmt, n, seed), numbers(fmt, n, seed + 1000)
        if seed % 3 == 0:
            b = [abs(x) * (1 if y > 0 else -1) for x, y in zip(b, a, strict=True)]  # all products positive
        exact = [x * y for x, y in zip(a, b, strict=True)]
        m = float(sum(map(abs, exact)))
        s, largest = kahan_sum([fl(p) for p in exact], fl)
        error = float(abs(s - sum(exact, Fraction(0))))
        assert error <= bound.relative * m + bound.absolute
        assert largest <= bound.reach * m + bound.reach_absolute
        largest_ratio = max(largest_ratio, error / (bound.relative * m))
    assert largest_ratio > 0.02


def test_compensated_sums_of_too_few_bits_have_no_bound() -> None:
    coarse = roundoff(Format.float(4, 1))
    assert math.isinf(kahan(20, coarse, coarse).relative)
    assert not worst(20, coarse, coarse).is_finite


def test_no_part_of_a_sum_exceeds_half_of_magnitudes_and_sum() -> None:
    for seed in range(30):
        x = numbers(SMALL, 8, seed)
        m, s = sum(map(abs, x), Fraction(0)), abs(sum(x, Fraction(0)))
        parts = [abs(sum(part, Fraction(0))) for k in range(9) for part in itertools.combinations(x, k)]
        assert max(parts) == (m + s) / 2


@pytest.mark.parametrize("order", ["sequential", "pairwise", "blocked", "kahan"])
def test_stochastic_sums_exceed_a_probable_bound_no_more_often_than_it_says(order) -> None:
    """20,000 sums of 200 terms at a failure of one in a thousand; Azuma's inequality is not tight, so that few or none are expected."""
    fmt, n = Format.float(8, 7), 200
    unit = roundoff(fmt, "stochastic", 16)
    bound = probable(n, unit, unit, 1e-3)
    assert bound.factor is not None and bound.relative < worst(n, unit, unit).relative
    rng = np.random.default_rng(3)
    arithmetic = Arithmetic(fmt, rounding="stochastic", random_bits=16, order=order)
    for positive in (False, True):
        a, b = (formats.round_array(rng.normal(size=size), fmt) for size in ((100, n), (n, 100)))
        a, b = (np.abs(a), np.abs(b)) if positive else (a, b)
        y = rounded.matmul(a, b, arithmetic, seed=1).astype(np.float64)
        exact, m = a.astype(np.float64) @ b, np.abs(a).astype(np.float64) @ np.abs(b)
        limit = np.maximum(np.minimum(*bound.tree_error(n, m, np.abs(exact))), bound.compensated * m + bound.compensated_absolute)
        assert (np.abs(y - exact) > limit).mean() <= 1e-3
        if order == "sequential" and positive:
            assert (np.abs(y - exact) > limit / 30).any(), "a small part of the bound is exceeded"


def test_a_bound_in_probability_is_for_roundings_that_are_random() -> None:
    fmt = Format.float(5, 10)
    for rounding in ("toward_zero", "up", "down", "to_odd"):
        unit = roundoff(fmt, rounding)
        assert probable(100, unit, unit, 1e-9) == worst(100, unit, unit)
    nearest, exact, few = roundoff(fmt), roundoff(fmt, "stochastic"), roundoff(fmt, "stochastic", 4)
    assert probable(3, nearest, nearest, 1e-9).factor is None, "of few terms the certain bound is the smaller"
    assert azuma_factor(2 * math.exp(-8)) == pytest.approx(4)
    wide = roundoff(Format.float(8, 15), "stochastic", 4)
    assert few.drift == 2.0**-4 and exact.drift == 2.0**-24
    assert probable(1000, wide, wide, 1e-9).relative > probable(1000, replace(wide, drift=0.0), replace(wide, drift=0.0), 1e-9).relative


def test_fixed_point_sums_are_exact_until_they_overflow() -> None:
    fmt = Format.fixed(6, 4)
    unit, fl = roundoff(fmt), rounder(fmt, "nearest_even")
    bound = worst(6, unit, unit, exact_sums=True)
    for seed in range(20):
        a, b = numbers(fmt, 6, seed), numbers(fmt, 6, seed + 50)
        exact = [x * y for x, y in zip(a, b, strict=True)]
        m = float(sum(map(abs, exact)))
        result = sum((fl(p) for p in exact), Fraction(0))
        assert fl(result) == result
        assert abs(result - sum(exact, Fraction(0))) <= bound.relative * m + bound.absolute
