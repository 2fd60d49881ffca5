"""Every instruction set against the plain native version where the kernels change their way: strips, rows, groups, rare blocks."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from convsmith import _native, formats

LEVELS = [level for level in _native.levels() if level != "reference"]
F32 = NDArray[np.float32]


def bits(x: F32) -> NDArray[np.uint32]:
    return x.view(np.uint32)


def numbers(shape: tuple[int, ...], seed: int = 0) -> F32:
    """Return numbers of many magnitudes, among them zeros, subnormals, infinities and NaN."""
    random = np.random.default_rng(seed)
    x = (random.normal(size=shape) * 2.0 ** random.integers(-12, 12, shape)).astype(np.float32)
    flat = x.reshape(-1)
    flat[random.integers(0, flat.size, flat.size // 20)] = 0
    flat[random.integers(0, flat.size, 5)] *= np.float32(2.0**100)
    flat[random.integers(0, flat.size, 5)] *= np.float32(2.0**-120)
    flat[random.integers(0, flat.size, 3)] = (np.inf, -np.inf, np.nan)
    return x


@pytest.mark.parametrize("name", ["mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e2m3", "mxfp4", "mxint8", "msfp12"])
@pytest.mark.parametrize(("shape", "axis"), [((70, 1100), 0), ((2, 33, 130), 1), ((9, 1000), 1), ((3, 2048), 1), ((5, 7), 1)])
def test_blocks_in_strips_and_rows(name: str, shape: tuple[int, ...], axis: int) -> None:
    fmt, x = formats.CATALOGUE[name], numbers(shape)
    x[0] *= np.float32(2.0**-90)  # blocks that the kernels leave to the plain version
    for mode in ("nearest_even", "stochastic", "down"):
        want = formats.round_array(x, fmt, mode, axis=axis, seed=5, stream=9, isa="reference")
        for level in LEVELS:
            got = formats.round_array(x, fmt, mode, axis=axis, seed=5, stream=9, isa=level, threads=2)
            np.testing.assert_array_equal(bits(got), bits(want), err_msg=f"{mode} {level}")


@pytest.mark.parametrize(
    ("shape", "axis", "group"), [((6, 100), 1, 16), ((6, 100), 1, 25), ((50, 130), 0, 7), ((2, 10, 9), 1, 4), ((3, 5), 1, 8)]
)
@pytest.mark.parametrize("mode", ["nearest_even", "stochastic"])
def test_groups(shape: tuple[int, ...], axis: int, group: int, mode: formats.Rounding) -> None:
    random = np.random.default_rng(2)
    parts = tuple(-(-size // group) if place == axis else size for place, size in enumerate(shape))
    scale, zeros = random.uniform(0.02, 0.2, parts), random.integers(-9, 9, parts)
    x, fmt = random.normal(size=shape).astype(np.float32), formats.CATALOGUE["int8"]
    whole = [np.repeat(v, group, axis=axis)[(slice(None),) * axis + (slice(shape[axis]),)] for v in (scale, zeros)]
    # one factor for each element: the rule itself
    every = formats.round_array(x.reshape(-1), fmt, mode, scale=whole[0].reshape(-1), zero_point=whole[1].reshape(-1), axis=0, seed=3)
    for level in [*LEVELS, "reference"]:
        got = formats.round_array(x, fmt, mode, scale=scale, zero_point=zeros, axis=axis, group=group, seed=3, isa=level)
        np.testing.assert_array_equal(bits(got), bits(every).reshape(shape), err_msg=level)
    twin = formats.round_numpy(x, fmt, mode, scale=scale, zero_point=zeros, axis=axis, group=group, seed=3)
    np.testing.assert_array_equal(bits(twin), bits(every).reshape(shape))


@pytest.mark.parametrize("shape", [(40, 9), (7, 64), (5, 200)])
@pytest.mark.parametrize("axis", [0, 1])
def test_channels_of_all_widths(shape: tuple[int, ...], axis: int) -> None:
    x, fmt = numbers(shape, 4), formats.CATALOGUE["int8"]
    scale = np.random.default_rng(5).uniform(0.5, 2, shape[axis])
    want = formats.round_array(x, fmt, scale=scale, axis=axis, isa="reference")
    for level in LEVELS:
        np.testing.assert_array_equal(bits(formats.round_array(x, fmt, scale=scale, axis=axis, isa=level)), bits(want))


@pytest.mark.parametrize("name", ["e4m3fn", "e2m1", "fp16", "e5m2", "e3m4", "q4.12", "q16.16", "int8", "uint4"])
@pytest.mark.parametrize("random_bits", [3, 13, 24])
def test_stochastic_sums(name: str, random_bits: int) -> None:
    codes = np.random.default_rng(6).integers(0, 1 << 32, 60_000, dtype=np.uint32).view(np.float32)
    x = np.concatenate([codes, numbers((40_000,), 7)])
    fmt = formats.CATALOGUE[name]
    want = formats.round_array(x, fmt, "stochastic", random_bits=random_bits, seed=8, isa="reference")
    for level in LEVELS:
        got = formats.round_array(x, fmt, "stochastic", random_bits=random_bits, seed=8, isa=level)
        np.testing.assert_array_equal(bits(got), bits(want), err_msg=level)
