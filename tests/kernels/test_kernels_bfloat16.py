"""The bfloat16 convolution: bit for bit the additions that VDPBF16PS is documented to make, and chosen only where its error is allowed."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from convsmith.compiler.choices import candidates
from convsmith.kernels import ALGORITHMS, bfloat16, convolution_shape, instruction_sets, native

Array = np.ndarray[Any, Any]

pytestmark = pytest.mark.skipif("gemm_bfloat16" not in native.names(instruction_sets()[-1]), reason="the processor has no VDPBF16PS")

SHAPES = [
    ((2, 32, 9, 8), (40, 32, 3, 3), {"pads": (1, 1, 1, 1)}),
    ((1, 5, 9, 11), (7, 5, 3, 3), {"pads": (1, 0, 2, 1), "strides": (2, 1)}),
    ((1, 48, 6, 5), (33, 48, 1, 1), {}),
    ((2, 12, 7, 7), (6, 4, 5, 3), {"pads": (2, 2, 2, 2), "group": 3, "dilations": (1, 2)}),
]


def native_bits(x_nchw: Array, w: Array, x_shape: tuple[int, ...], attributes: dict[str, Any]) -> Array:
    shape, algorithm = convolution_shape(x_shape, w.shape, attributes), ALGORITHMS["gemm_bfloat16"]
    return np.asarray(algorithm.run(x_nchw, algorithm.prepare(w, shape), shape))


def test_rounding_is_that_of_ml_dtypes() -> None:
    """All float32 numbers whose lower half is one of a few around the ties, but those that the processor takes as zero."""
    upper = np.arange(1 << 16, dtype=np.uint32)[:, None] << np.uint32(16)
    x = (upper | np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)).view(np.float32).reshape(-1)
    x = x[~np.isnan(x)]
    with np.errstate(over="ignore"):
        expected = x.astype(ml_dtypes.bfloat16).astype(np.float32)
    expected = np.where(np.abs(x) < 2.0**-126, np.copysign(np.float32(0), x), expected)
    np.testing.assert_array_equal(bfloat16.rounded(x).view(np.uint32), expected.view(np.uint32))
    assert np.isnan(bfloat16.rounded(np.array([np.nan], np.float32)))[0]


@pytest.mark.parametrize(("x_shape", "w_shape", "attributes"), SHAPES)
def test_the_same_bits_as_the_documented_additions(x_shape: tuple[int, ...], w_shape: tuple[int, ...], attributes: dict[str, Any]) -> None:
    """Operands are multiples of 2^-10 below 8: product and sum are exact in float64, and the reference rounds once."""
    generator = np.random.default_rng(0)
    x, w = ((generator.integers(-8191, 8192, size) * 2.0**-10).astype(np.float32) for size in (x_shape, w_shape))
    shape = convolution_shape(x_shape, w_shape, attributes)
    expected = bfloat16.run(x, bfloat16.prepare(w, shape), shape)
    np.testing.assert_array_equal(native_bits(x, w, x_shape, attributes).view(np.uint32), expected.view(np.uint32))
    exact = ALGORITHMS["im2col"].run(bfloat16.rounded(x).astype(np.float64), w_doubles(w, shape), shape)
    assert np.any(expected != exact.astype(np.float32))  # sums were rounded


def w_doubles(w: Array, shape: Any) -> Array:
    return np.asarray(ALGORITHMS["im2col"].prepare(bfloat16.rounded(w).astype(np.float64), shape))


@pytest.mark.parametrize(
    ("x", "w", "expected"),
    [
        ([1, 0, 2**-12, 2**-12], [1, 0, 2**-12, 2**-12], 1.0),  # each addition rounds: 1 + 2^-24 is 1, twice
        ([1, 0, 2**-24, 2**-23], [1, 0, 1, 1], 1 + 2**-22),  # the second of a pair first: 1 + 2^-23, then a tie to even
        ([1, 0, 2**-23, 2**-24], [1, 0, 1, 1], 1 + 2**-23),
        ([2**-130, 0], [2**20, 0], 0.0),  # operands below 2^-126 are zero
        ([2**-70, 0], [2**-60, 0], 0.0),  # results too
        ([1 + 2**-8, 0], [1, 0], 1.0),  # operands round half to even
        ([1 + 3 * 2**-8, 0], [1, 0], 1 + 2**-6),
        ([np.nan, 1], [1, 1], np.nan),
        ([np.inf, 1], [1, 1], np.inf),
        ([2**127, 2**127], [2, 1], np.inf),
    ],
)
def test_the_corners(x: list[float], w: list[float], expected: float) -> None:
    images, weights = np.array(x, np.float32).reshape(1, -1, 1, 1), np.array(w, np.float32).reshape(1, -1, 1, 1)
    y = native_bits(images, weights, images.shape, {})
    np.testing.assert_array_equal(y.reshape(-1), np.float32(expected))
    shape = convolution_shape(images.shape, weights.shape, {})
    np.testing.assert_array_equal(bfloat16.run(images, bfloat16.prepare(weights, shape), shape), y)


def test_chosen_only_where_its_error_is_allowed() -> None:
    shape, level = convolution_shape((1, 64, 14, 14), (64, 64, 1, 1), {}), instruction_sets()[-1]
    assert "gemm_bfloat16" not in candidates(shape, level, None) and "gemm_bfloat16" not in candidates(shape, level, 1e-3)
    assert "gemm_bfloat16" in candidates(shape, level, 1e-2)
