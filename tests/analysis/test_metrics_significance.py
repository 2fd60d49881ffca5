"""Intervals and the paired test against scipy."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from convsmith.analysis import mcnemar, wilson
from convsmith.errors import DataError, UsageError


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 50), (50, 50), (7, 10), (354, 360), (9930, 10000)])
def test_wilson_equals_scipy(k: int, n: int) -> None:
    expected = binomtest(k, n).proportion_ci(0.95, method="wilson")
    assert wilson(k, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_refuses() -> None:
    with pytest.raises(DataError, match="at least one image, got 0"):
        wilson(0, 0)
    with pytest.raises(UsageError, match="3 of 2 is not a proportion"):
        wilson(3, 2)


@pytest.mark.parametrize(("b", "c"), [(1, 0), (3, 9), (9, 3), (5, 5), (0, 12), (40, 75), (2100, 2300)])
def test_mcnemar_equals_scipy(b: int, c: int) -> None:
    a_right = np.array([True] * b + [False] * c + [True] * 30 + [False] * 4)
    b_right = np.array([False] * b + [True] * c + [True] * 30 + [False] * 4)
    result = mcnemar(a_right, b_right)
    assert (result.only_a, result.only_b, result.both_right, result.both_wrong) == (b, c, 30, 4)
    assert result.n == b + c + 34
    assert result.difference == pytest.approx(b_right.mean() - a_right.mean())
    exact = binomtest(b, b + c).pvalue
    assert result.p_exact == pytest.approx(exact, rel=1e-9)
    # mid-p counts half of each of the two tail points; both tails are one point when b == c
    assert result.p_mid == pytest.approx(min(1.0, 2 * binom.cdf(min(b, c), b + c, 0.5) - binom.pmf(min(b, c), b + c, 0.5)), rel=1e-9)
    assert json.loads(json.dumps(result.to_dict()))["only_a"] == b


def test_mcnemar_speaks_plainly() -> None:
    right, wrong = np.ones(20, bool), np.zeros(20, bool)
    assert mcnemar(right, right).sentence == "A and B are right on the same 20 images: no difference is seen."
    assert mcnemar(right, right).p_mid == 1
    strong = mcnemar(wrong, right, name_a="fp32", name_b="int8").sentence
    assert strong.startswith("fp32 alone is right on 0, int8 alone on 20 of 20 images (mid-p < 0.001): int8 is better than fp32")
    weak = mcnemar([1, 1, 0, 0], [1, 0, 1, 1]).sentence
    assert weak.endswith("the difference could be chance.")


def test_mcnemar_refuses() -> None:
    with pytest.raises(DataError, match="A has 3 images and B has 2"):
        mcnemar([1, 0, 1], [1, 0])
    with pytest.raises(DataError, match="at least one"):
        mcnemar([], [])
    with pytest.raises(UsageError, match="values other than true and false"):
        mcnemar([0, 1, 2], [0, 1, 1])
