"""Rounded elementwise arithmetic against exact fractions, and rounded sums along axes."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray
from rounded_oracles import dot, key_of, telling_factors

from convsmith import formats
from convsmith.errors import UsageError
from convsmith.kernels import rounded_elementwise as elementwise
from convsmith.kernels.arithmetic import Arithmetic

F32 = NDArray[np.float32]
SEED, STREAM = 17, 4
COUNT = 400


def cut_off(whole: int, exact: bool) -> Fraction:
    """``whole`` units of 2^-400, and half a unit more where that is not exact: no rounding here tells it from the exact number."""
    return Fraction(2 * whole + (not exact), 1 << 401)


def root(x: Fraction) -> Fraction:
    scaled = x * (1 << 800)
    whole = math.isqrt(scaled.numerator // scaled.denominator)
    return cut_off(whole, whole * whole == scaled)


def quotient(x: Fraction, y: Fraction) -> Fraction:
    scaled = abs(x / y) * (1 << 400)
    size = cut_off(int(scaled), scaled.denominator == 1)
    return size if (x < 0) == (y < 0) else -size


EXACT: dict[str, tuple[int, Callable[..., Fraction]]] = {
    "add": (2, lambda x, y: x + y),
    "subtract": (2, lambda x, y: x - y),
    "multiply": (2, lambda x, y: x * y),
    "divide": (2, quotient),
    "sqrt": (1, root),
    "fused_multiply_add": (3, lambda x, y, z: x * y + z),
}


def inputs(count: int, text: str, positive: bool) -> list[F32]:
    """Numbers of the format and any float32; quotients, roots and sums that are ties or just beside them."""
    fmt, rng = formats.parse(text), np.random.default_rng(1)
    found = []
    for i in range(count):
        x = np.concatenate([telling_factors((1, COUNT), fmt, i)[0], rng.normal(size=COUNT).astype(np.float32)])
        x[-100:] = (1 + np.exp2(-rng.integers(1, 24, 100))) * np.exp2(rng.integers(-3, 3, 100))
        x[-200:-100] = np.exp2(rng.integers(-60, 60, 100))
        found.append(np.where(x == 0, np.float32(1), np.abs(x) if positive else x).astype(np.float32))
    return found


@pytest.mark.parametrize("text", ["e4m3fn", "e5m10", "e8m23", "e8m18", "q8.8", "fixed<10,15>"])
@pytest.mark.parametrize("name", EXACT)
def test_equals_exact_fractions(name: str, text: str) -> None:
    count, exact = EXACT[name]
    arrays = inputs(count, text, name == "sqrt")
    fmt = formats.parse(text)
    values = [exact(*(Fraction(float(v)) for v in row)) for row in zip(*arrays, strict=True)]
    for mode in formats.ROUNDINGS:
        arithmetic = Arithmetic(fmt, rounding=mode, random_bits=24)
        got = getattr(elementwise, name)(*arrays, arithmetic, seed=SEED, stream=STREAM)
        drawn = formats.random_words(0, len(values), SEED, STREAM) >> np.uint32(8)
        want = [formats.round_scalar(v, fmt, mode, "saturate", int(r), 24) for v, r in zip(values, drawn, strict=True)]  # type: ignore[arg-type]
        np.testing.assert_array_equal(got, np.array(want, np.float32), err_msg=mode)


@pytest.mark.parametrize("name, count", [("add", 2), ("multiply", 2), ("divide", 2), ("sqrt", 1), ("fused_multiply_add", 3)])
def test_special_values_follow_ieee(name: str, count: int) -> None:
    special = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan], np.float32)
    arrays = [array.astype(np.float32) for array in np.meshgrid(*[special] * count)]
    got = getattr(elementwise, name)(*arrays, Arithmetic(formats.parse("fp32"), overflow="infinity"))
    with np.errstate(all="ignore"):
        if name == "fused_multiply_add":
            want = arrays[0] * arrays[1] + arrays[2]
        else:
            want = getattr(np, name)(*arrays)
    np.testing.assert_array_equal(got, want)
    number = ~np.isnan(want)
    np.testing.assert_array_equal(np.signbit(got[number]), np.signbit(want[number]))


def test_fp16_equals_numpy() -> None:
    codes = np.arange(1 << 16, dtype=np.uint16)
    x, y = codes.view(np.float16), np.random.default_rng(0).permutation(codes).view(np.float16)
    arithmetic = Arithmetic(formats.parse("fp16"), overflow="infinity")
    for name in ("add", "subtract", "multiply", "divide"):
        with np.errstate(all="ignore"):
            want = getattr(np, name)(x, y).astype(np.float32)
            got = getattr(elementwise, name)(x.astype(np.float32), y.astype(np.float32), arithmetic)
        np.testing.assert_array_equal(got, want)


def test_exp_and_log_round_the_float64_value() -> None:
    x = np.linspace(0.1, 20, 999, dtype=np.float32)
    arithmetic = Arithmetic(formats.parse("e8m12"), rounding="up")
    for name in ("exp", "log"):
        want = formats.round_numpy(getattr(np, name)(x.astype(np.float64)), arithmetic.format, "up")
        np.testing.assert_array_equal(getattr(elementwise, name)(x, arithmetic), want)


@pytest.mark.parametrize("axes, shape", [((1,), (2, 4)), ((0, 2), (3,)), (None, ()), ((), (2, 3, 4)), ((-1,), (2, 3))])
@pytest.mark.parametrize("order", ["sequential", "pairwise"])
def test_total_sums_in_order(axes: tuple[int, ...] | None, shape: tuple[int, ...], order: str) -> None:
    arithmetic = Arithmetic(formats.parse("e4m3fn"), rounding="stochastic", order=order)  # type: ignore[arg-type]
    x = telling_factors((2, 12), formats.parse("e5m10"), 3).reshape(2, 3, 4)
    got = elementwise.total(x, arithmetic, axes, seed=SEED, stream=STREAM)
    summed = tuple(range(3)) if axes is None else tuple(axis % 3 for axis in axes)
    rows = np.moveaxis(x, summed, range(len(summed))).reshape(int(np.prod([x.shape[a] for a in summed])), -1)
    want = [dot([1.0] * len(rows), [float(v) for v in column], arithmetic, i, key_of(SEED, STREAM)) for i, column in enumerate(rows.T)]
    np.testing.assert_array_equal(got, np.array(want, np.float32).reshape(shape))


def test_refusals() -> None:
    x, arithmetic = np.zeros((2, 3), np.float32), Arithmetic(formats.parse("fp16"))
    with pytest.raises(UsageError, match=r"arrays of shapes \(2, 3\), \(2,\) do not broadcast"):
        elementwise.add(x, x[:, 0], arithmetic)
    with pytest.raises(UsageError, match=r"y must be a float32 array.*got an array of float64"):
        elementwise.add(x, x.astype(np.float64), arithmetic)
    with pytest.raises(UsageError, match=r"axes must be different axes of an array of 2 axes; got \(2,\)"):
        elementwise.total(x, arithmetic, (2,))
    with pytest.raises(UsageError, match="arithmetic must be an Arithmetic"):
        elementwise.sqrt(x, "fp16")  # type: ignore[arg-type]
