"""Convolution algorithms against torch, scipy and their own error bound."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import correlate

from convsmith.errors import UsageError
from convsmith.kernels import ALGORITHMS, Algorithm, convolution_shape, register
from convsmith.kernels.layers import conv, conv_transpose

REFERENCES = ("naive", "im2col")
"""The algorithms in NumPy, for any type; test_algorithms_contract.py drives the native ones."""


def run(algorithm: str, x: np.ndarray, w: np.ndarray, **attributes: object) -> np.ndarray:
    method = ALGORITHMS[algorithm]
    shape = convolution_shape(x.shape, w.shape, attributes, str(x.dtype))
    assert method.supports(shape)
    y: np.ndarray = method.run(x, method.prepare(w, shape), shape)
    assert y.shape == shape.output and y.dtype == x.dtype
    return y


def within_bound(y: np.ndarray, x: np.ndarray, w: np.ndarray, algorithm: str, **attributes: object) -> bool:
    """Tell whether y is as near to the float64 result as the algorithm states."""
    exact, size = (run("naive", abs_(x), abs_(w), **attributes) for abs_ in (np.float64, lambda a: np.abs(a).astype(np.float64)))
    bound = ALGORITHMS[algorithm].error_bound(convolution_shape(x.shape, w.shape, attributes, str(x.dtype)))
    return bool(np.all(np.abs(y - exact) <= bound * size))


@pytest.mark.parametrize("algorithm", REFERENCES)
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_equals_torch(algorithm: str, groups: int) -> None:
    generator = np.random.default_rng(1)
    x, w = generator.normal(size=(2, 4, 7, 9)), generator.normal(size=(8, 4 // groups, 3, 2))
    y = run(algorithm, x, w, strides=(2, 1), pads=(1, 2, 1, 2), dilations=(1, 2), group=groups)
    expected = torch.conv2d(torch.tensor(x), torch.tensor(w), None, (2, 1), (1, 2), (1, 2), groups).numpy()
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-13)  # float64, at most 24 products


@pytest.mark.parametrize("algorithm", REFERENCES)
def test_equals_scipy(algorithm: str) -> None:
    generator = np.random.default_rng(2)
    x, w = generator.normal(size=(1, 3, 8, 6)), generator.normal(size=(1, 3, 3, 3))
    np.testing.assert_allclose(run(algorithm, x, w)[0], correlate(x[0], w[0], mode="valid"), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("algorithm", REFERENCES)
@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    channels=st.integers(1, 5),
    size=st.integers(3, 9),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
)
def test_float32_stays_within_the_stated_bound(
    algorithm: str, seed: int, channels: int, size: int, kernel: int, stride: int, pads: tuple
) -> None:
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(1, channels, size, size + 1)).astype(np.float32)
    w = generator.normal(size=(2, channels, kernel, kernel)).astype(np.float32)
    attributes = {"strides": (stride, stride), "pads": pads}
    assert within_bound(run(algorithm, x, w, **attributes), x, w, algorithm, **attributes)


def test_the_bound_is_not_empty() -> None:
    x, w = np.ones((1, 2, 3, 3), np.float32), np.ones((1, 2, 3, 3), np.float32)
    off = run("naive", x, w) * np.float32(1 + 1e-5)
    assert not within_bound(off, x, w, "naive")


def test_algorithms_refuse_channels_that_do_not_fit() -> None:
    with pytest.raises(UsageError, match=r"has 3 channels, weights \(4, 2, 3, 3\) in 1 groups need 2"):
        convolution_shape((1, 3, 8, 8), (4, 2, 3, 3), {})


def test_workspace_counts_the_columns() -> None:
    shape = convolution_shape((2, 3, 8, 8), (4, 3, 3, 3), {"pads": (1, 1, 1, 1)})
    padded = 2 * 3 * 10 * 10 * 4
    assert ALGORITHMS["naive"].workspace_bytes(shape) == padded
    assert ALGORITHMS["im2col"].workspace_bytes(shape) == padded + 2 * 27 * 64 * 4


def test_register_refuses_a_duplicate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convsmith.kernels.algorithms.ALGORITHMS", dict(ALGORITHMS))
    with pytest.raises(UsageError, match=r"an algorithm named 'naive' exists already; taken are depthwise, direct, .*gemm, .*im2col"):
        register(ALGORITHMS["naive"])
    register(dataclasses.replace(ALGORITHMS["naive"], name="other"))
    with pytest.raises(UsageError, match="'other' exists already"):
        register(Algorithm("other", *(None,) * 5))  # type: ignore[arg-type]


def test_one_dimensional_convolution_equals_torch() -> None:
    generator = np.random.default_rng(3)
    x, w, b = generator.normal(size=(2, 3, 11)), generator.normal(size=(4, 3, 3)), generator.normal(size=4)
    y = conv((x, w, b), {"strides": (2,), "pads": (2, 1), "dilations": (2,), "kernel_shape": (3,)})
    padded = torch.nn.functional.pad(torch.tensor(x), (2, 1))
    np.testing.assert_allclose(y, torch.conv1d(padded, torch.tensor(w), torch.tensor(b), 2, 0, 2).numpy(), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolution_equals_torch(groups: int) -> None:
    generator = np.random.default_rng(4)
    x, w, b = generator.normal(size=(2, 4, 5, 6)), generator.normal(size=(4, 3, 3, 2)), generator.normal(size=3 * groups)
    attributes = {"strides": (2, 3), "pads": (1, 0, 1, 0), "output_padding": (1, 2), "dilations": (2, 1), "group": groups}
    expected = torch.conv_transpose2d(*map(torch.tensor, (x, w, b)), (2, 3), (1, 0), (1, 2), groups, (2, 1)).numpy()
    np.testing.assert_allclose(conv_transpose((x, w, b), attributes), expected, rtol=1e-12, atol=1e-13)
