"""What every preset does in every rounding and overflow, whatever the numbers: properties, and one answer of all implementations."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from convsmith import _native, formats
from convsmith.formats import CATALOGUE, Format

Floats = NDArray[Any]
LEVELS = _native.levels()
KEY: dict[str, Any] = {"seed": 0x1234_5678_9ABC_DEF0, "stream": 3}
BITS = 13

#: The presets, and combinations of fields that none of them has.
EVERY = [name for name, fmt in CATALOGUE.items() if fmt.element is None]
EVERY += "e3m1:flush e3m2fn:bias=-3:flush e4m9:bias=140 e3m2extended:flush ue3m2fn ue2m3:nozero ufixed<1,5> fixed<-80,90>".split()
SYMMETRIC = [name for name in EVERY if formats.min_value(formats.parse(name)) == -formats.max_value(formats.parse(name))]
BLOCKS = [name for name, fmt in CATALOGUE.items() if fmt.element is not None]


def modes_of(fmt: Format) -> Iterator[tuple[formats.Rounding, formats.Overflow]]:
    overflows: list[formats.Overflow] = ["saturate"]
    if fmt.kind in ("fixed", "integer") and not fmt.symmetric:
        overflows.append("wrap")
    if fmt.kind == "float" and fmt.specials != "finite":
        overflows.append("infinity")
    for mode, overflow in itertools.product(formats.ROUNDINGS, overflows):
        if fmt.kind != "binary" or mode not in ("toward_zero", "to_odd"):
            yield mode, overflow


def codes(x: Floats) -> Floats:
    """The bits of the numbers, one for all NaN."""
    found: Floats = np.where(np.isnan(x), x.dtype.type(np.nan), x).view(f"u{x.itemsize}")
    return found


def numbers_near(fmt: Format, seed: int) -> Floats:
    """Values of a format, what lies between them, their neighbours, both ends, and numbers of all sizes."""
    rng, dtype = np.random.default_rng(seed), np.dtype(fmt.carrier).type
    drawn = formats.decode(rng.integers(0, 1 << min(fmt.bits, 62), 40, dtype=np.uint64) << np.uint64(max(0, fmt.bits - 62)), fmt)
    drawn = drawn[np.isfinite(drawn)].astype(dtype)
    top, least = formats.max_value(fmt), formats.smallest_positive(fmt)
    with np.errstate(over="ignore"):
        spread = np.exp2(rng.uniform(np.log2(least) - 3, np.log2(top) + 3, 30)) * rng.choice([-1, 1], 30)
        parts = [drawn, drawn * (1 + formats.epsilon(fmt) * rng.choice([0.25, 0.5, 0.75, 1.5], drawn.size)), spread]
        parts += [top * (1 + np.arange(-4, 5) * min(formats.epsilon(fmt), 1.0) / 4), least * np.arange(-6, 7) / 4]
        x = np.concatenate(parts).astype(dtype)
        return np.concatenate([x, np.nextafter(x, dtype(np.inf)), np.nextafter(x, dtype(-np.inf))])


def inputs(fmt: Format, seed: int, given_numbers: Floats) -> Floats:
    x = np.concatenate([numbers_near(fmt, seed), given_numbers.astype(fmt.carrier)])
    return np.asarray(x[np.random.default_rng(seed).permutation(x.size)])


EXAMPLES = settings(max_examples=6, deadline=None, derandomize=True)
NUMBERS = arrays(np.float32, st.integers(1, 40), elements=st.floats(width=32, allow_nan=False))


@pytest.mark.parametrize("name", EVERY)
@EXAMPLES
@given(st.integers(0, 2**32 - 1), NUMBERS)
def test_all_implementations_are_one(name: str, seed: int, more: Floats) -> None:
    """NumPy is the specification on some numbers, every instruction level is NumPy on all of them."""
    fmt = formats.parse(name)
    x = np.concatenate([inputs(fmt, seed, more), np.array([np.nan, np.inf, -np.inf, 0.0, -0.0], fmt.carrier)])
    some = np.concatenate([np.random.default_rng(seed).integers(0, x.size, 6), np.arange(x.size - 5, x.size)])
    drawn = formats.random_words(0, x.size, **KEY) >> np.uint32(32 - BITS)
    for mode, overflow in modes_of(fmt):
        want = formats.round_numpy(x, fmt, mode, overflow, **KEY, random_bits=BITS)
        told = [formats.round_scalar(float(x[i]), fmt, mode, overflow, int(drawn[i]), BITS) for i in some]
        np.testing.assert_array_equal(codes(want[some]), codes(np.array(told, fmt.carrier)), err_msg=f"{mode} {overflow} {x[some]}")
        for level in LEVELS:
            got = formats.round_array(x, fmt, mode, overflow, **KEY, random_bits=BITS, isa=level)
            np.testing.assert_array_equal(codes(got), codes(want), err_msg=f"{mode} {overflow} {level}")


@pytest.mark.parametrize("name", EVERY)
@EXAMPLES
@given(st.integers(0, 2**32 - 1), NUMBERS)
def test_results_are_values_and_stay(name: str, seed: int, more: Floats) -> None:
    """In the set, checked by the codes; idempotent; NaN and infinity only where the overflow rule makes them."""
    fmt = formats.parse(name)
    x = inputs(fmt, seed, more)
    for mode, overflow in modes_of(fmt):
        y = formats.round_array(x, fmt, mode, overflow, **KEY, random_bits=BITS)
        finite = np.isfinite(y)
        np.testing.assert_array_equal(codes(formats.decode(formats.encode(y[finite], fmt), fmt)), codes(y[finite]))
        if overflow == "saturate":
            assert finite.all()
        if not fmt.has_infinity:
            assert not np.isinf(y).any()
        again = formats.round_array(y, fmt, mode, overflow, seed=1, random_bits=BITS)
        np.testing.assert_array_equal(codes(again), codes(y), err_msg=f"{mode} {overflow}")


@pytest.mark.parametrize("name", EVERY)
@EXAMPLES
@given(st.integers(0, 2**32 - 1), NUMBERS)
def test_order_is_kept(name: str, seed: int, more: Floats) -> None:
    """x <= x' gives round(x) <= round(x') in every mode, stochastic ones with the same random bits; wrapping apart."""
    fmt = formats.parse(name)
    x = inputs(fmt, seed, more)
    pairs = np.sort(x[: x.size // 2 * 2].reshape(2, -1), axis=0)
    ascending = np.sort(x)
    for mode, overflow in modes_of(fmt):
        if overflow == "wrap":
            continue
        y, z = (formats.round_array(v, fmt, mode, overflow, **KEY, random_bits=BITS) for v in pairs)
        number = ~(np.isnan(y) | np.isnan(z))
        assert (y <= z)[number].all(), (mode, overflow)
        if mode != "stochastic":
            whole = formats.round_array(ascending, fmt, mode, overflow)
            whole = whole[~np.isnan(whole)]
            assert (whole[:-1] <= whole[1:]).all(), (mode, overflow)


@pytest.mark.parametrize("name", SYMMETRIC)
@EXAMPLES
@given(st.integers(0, 2**32 - 1), NUMBERS)
def test_negation_is_symmetric(name: str, seed: int, more: Floats) -> None:
    """Where the range is: up is down of the negated number, the other modes do the same to both signs, with the same random bits."""
    fmt = formats.parse(name)
    x = inputs(fmt, seed, more)
    if fmt.kind == "binary":
        x = x[x != 0]  # which counts as positive there
    mirrored: dict[formats.Rounding, formats.Rounding] = {"up": "down", "down": "up"}
    for mode, overflow in modes_of(fmt):
        if fmt.kind == "binary" and mode in ("stochastic", "up", "down"):
            continue  # the probability of +1 grows with the number, not with its magnitude
        there = formats.round_array(x, fmt, mode, overflow, **KEY, random_bits=BITS)
        back = -formats.round_array(-x, fmt, mirrored.get(mode, mode), overflow, **KEY, random_bits=BITS)
        if not fmt.negative_zero:
            there, back = there + 0.0, back + 0.0
        np.testing.assert_array_equal(codes(back), codes(there), err_msg=f"{mode} {overflow}")


@pytest.mark.parametrize("name", [name for name in EVERY if formats.parse(name).kind != "binary"])
@EXAMPLES
@given(st.integers(0, 2**32 - 1), NUMBERS)
def test_directions_surround_the_number(name: str, seed: int, more: Floats) -> None:
    """Inside the range down <= x <= up, equal where x is a value; nearest takes the closer one; the others one of the two."""
    fmt = formats.parse(name)
    x = inputs(fmt, seed, more)
    x = x[(x >= formats.min_value(fmt)) & (x <= formats.max_value(fmt))]
    up, down = (formats.round_array(x, fmt, mode) for mode in ("up", "down"))
    assert (down <= x).all() and (x <= up).all()
    value = (up == x) | (down == x)
    assert ((up == down) == value).all()
    for mode in formats.ROUNDINGS:
        y = formats.round_array(x, fmt, mode, **KEY, random_bits=BITS)
        assert ((y == up) | (y == down)).all(), mode
        if mode.startswith("nearest"):
            # exact: both differences are of numbers that are close, or have few bits
            wide = [v.astype(np.longdouble) for v in (x, y, up, down)]
            assert (np.abs(wide[1] - wide[0]) <= np.minimum(wide[2] - wide[0], wide[0] - wide[3])).all(), mode


@pytest.mark.parametrize("name", BLOCKS)
@EXAMPLES
@given(st.integers(0, 2**32 - 1), NUMBERS)
def test_blocks(name: str, seed: int, more: Floats) -> None:
    """All implementations are one; symmetric elements stay and mirror; order is kept inside a block, whose scale is common."""
    fmt = CATALOGUE[name]
    assert fmt.element is not None
    rng = np.random.default_rng(seed)
    x = np.concatenate([rng.normal(size=150) * np.exp2(rng.integers(-6, 6, 150)), numbers_near(fmt.element, seed), more]).astype(np.float32)
    x = np.sort(x.reshape(-1))
    for mode in formats.ROUNDINGS:
        want = formats.round_numpy(x, fmt, mode, **KEY, random_bits=BITS)
        for level in LEVELS:
            got = formats.round_array(x, fmt, mode, **KEY, random_bits=BITS, isa=level)
            np.testing.assert_array_equal(codes(got), codes(want), err_msg=f"{mode} {level}")
        if formats.min_value(fmt.element) == -formats.max_value(fmt.element):
            # of two's complement, -1.999 becomes -2, the next exponent, so that the scale of the result is another one
            np.testing.assert_array_equal(codes(formats.round_array(want, fmt, mode, seed=1, random_bits=BITS)), codes(want), err_msg=mode)
            other: formats.Rounding = {"up": "down", "down": "up"}.get(mode, mode)  # type: ignore[assignment]
            back = formats.round_array(-x, fmt, other, **KEY, random_bits=BITS)
            np.testing.assert_array_equal(-back + 0.0, want + 0.0, err_msg=mode)
        if mode != "stochastic":
            whole = want[: want.size // fmt.block_size * fmt.block_size].reshape(-1, fmt.block_size)
            whole = whole[~np.isnan(whole).any(axis=1)]
            assert (np.diff(whole, axis=1) >= 0).all(), mode
