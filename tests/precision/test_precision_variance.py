"""The variance retention rule against sums that are really rounded."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from convsmith.errors import UsageError
from convsmith.formats import Format
from convsmith.kernels import rounded
from convsmith.kernels.arithmetic import Arithmetic
from convsmith.precision.variance_retention import MOST, is_enough, retention, significand_bits


def measured(bits: int, terms: int, count: int = 3000) -> float:
    """Variance of rounded sums of random numbers, as a part of that of the exact sums of the same numbers."""
    x = np.random.default_rng(0).standard_normal((count, terms)).astype(np.float32)
    sums = rounded.matmul(x, np.ones((terms, 1), np.float32), Arithmetic(Format.float(8, bits), None))
    return float(sums.var() / x.astype(np.float64).sum(1).var())


@pytest.mark.parametrize("terms", [64, 576, 2304])
def test_the_rule_holds_in_emulation_and_four_bits_less_do_not(terms) -> None:
    bits = significand_bits(terms)
    assert measured(bits, terms) >= 0.97
    assert measured(bits - 4, terms) <= 0.93


def test_retention_grows_with_bits_and_falls_with_terms() -> None:
    table = [[retention(bits, terms) for bits in range(1, 12)] for terms in (10, 100, 1000, 10_000)]
    assert all(a <= b + 1e-12 for row in table for a, b in itertools.pairwise(row))
    assert all(table[i][3] >= table[i + 1][3] for i in range(3))
    assert all(0 < value <= 1 for row in table for value in row)
    assert retention(23, 1000) == pytest.approx(1.0) and retention(1, 2) == 1.0
    assert [significand_bits(n) for n in (2, 27, 288, 576, 4608, 10**6)] == sorted(
        significand_bits(n) for n in (2, 27, 288, 576, 4608, 10**6)
    )
    assert significand_bits(10**6) <= MOST


def test_three_bits_fewer_are_not_enough() -> None:
    assert not is_enough(significand_bits(4096) - 3, 4096)
    with pytest.raises(UsageError, match="0 significand bits and 5 terms; give at least one of each"):
        retention(0, 5)
