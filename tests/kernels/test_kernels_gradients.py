"""The native gradients of convolution weights at every instruction set, against float64; scratch and output are NaN between guards."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
import torch
from convolution_contract import Guarded, odd_shape
from hypothesis import given, settings
from hypothesis import strategies as st

from convsmith.errors import UsageError
from convsmith.kernels import ConvolutionShape, convolution_shape, gradients, instruction_sets, native

Array = np.ndarray[Any, Any]
U = 2.0**-24
NAN = 0xFF
LEVELS = instruction_sets()
DIRECT = ("loops", "pixels")

CASES = [
    ((2, 5, 9, 8), (7, 5, 3, 3), {"pads": (1, 1, 1, 1)}),
    ((1, 33, 7, 6), (49, 33, 1, 1), {}),
    ((2, 16, 9, 11), (32, 16, 3, 3), {"pads": (1, 0, 2, 1), "strides": (2, 2)}),
    ((3, 12, 8, 8), (18, 4, 5, 3), {"pads": (2, 2, 2, 2), "group": 3, "strides": (1, 2)}),
    ((1, 17, 10, 9), (17, 1, 3, 3), {"pads": (1, 1, 1, 1), "group": 17}),
    ((2, 3, 13, 12), (40, 3, 3, 3), {"pads": (2, 2, 2, 2), "dilations": (2, 2)}),
    ((2, 3, 33, 30), (40, 3, 7, 7), {"pads": (3, 3, 3, 3), "strides": (2, 2)}),
    ((1, 4, 5, 3), (6, 4, 5, 5), {"pads": (4, 4, 4, 4)}),
    ((2, 20, 15, 14), (33, 20, 5, 5), {"pads": (2, 2, 2, 2)}),
    ((40, 30, 12, 12), (70, 30, 3, 3), {"pads": (1, 1, 1, 1)}),
    ((3, 40, 40, 36), (48, 40, 3, 3), {"pads": (1, 1, 1, 1)}),
]


def exact(x: Array, dy: Array, w_shape: tuple[int, ...], shape: ConvolutionShape) -> Array:
    """Return the gradient in float64 by torch."""
    (top, left), (bottom, right) = shape.windows.before, shape.windows.after
    padded = torch.nn.functional.pad(torch.tensor(x, dtype=torch.float64), (left, right, top, bottom))
    v, doubles = shape.windows, torch.tensor(dy, dtype=torch.float64)
    found: Array = torch.nn.grad.conv2d_weight(padded, w_shape, doubles, v.strides, 0, v.dilations, shape.groups).numpy()
    return found


def last(x: Array) -> Array:
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1))


def run(level: str, name: str, x: Array, dy: Array, w_shape: tuple[int, ...], shape: ConvolutionShape, threads: int) -> Array:
    """Return the gradient, made between guards."""
    size = importlib.import_module("convsmith._native").gradient_workspace_bytes(level, name, native.sizes(shape), threads) // 4
    dw, scratch = Guarded(w_shape, np.float32, NAN), Guarded((size,), np.float32, NAN)
    gradients.weight_gradient(name, last(x), last(dy), shape, level=level, out_kcrs=dw.array, workspace=scratch.array, threads=threads)
    dw.check()
    scratch.check()
    return dw.array


def check(level: str, x_shape: tuple[int, ...], w_shape: tuple[int, ...], attributes: dict[str, Any]) -> int:
    """Compare every way with float64 and with itself on other threads; return how many there were.

    Direct sums keep the bound of any order, n u / (1 - n u) times the sum of magnitudes, Winograd's twice its accuracy relative to the
    largest sum of magnitudes.
    """
    shape = convolution_shape(x_shape, w_shape, attributes)
    generator = np.random.default_rng(0)
    x, dy = (generator.normal(size=size).astype(np.float32) for size in (x_shape, shape.output))
    expected, magnitudes = exact(x, dy, w_shape, shape), exact(np.abs(x), np.abs(dy), w_shape, shape)
    terms = shape.batch * int(np.prod(shape.windows.output))
    names = gradients.names_for(shape, 1.0, level)
    for name in names:
        found = run(level, name, x, dy, w_shape, shape, 1)
        np.testing.assert_array_equal(found, run(level, name, x, dy, w_shape, shape, 3))
        most = terms * U / (1 - terms * U) * magnitudes if name in DIRECT else gradients.ACCURACY[name] * magnitudes.max()
        assert np.all(np.abs(found - expected) <= most + 1e-37), name
    return len(names)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("x_shape", "w_shape", "attributes"), CASES)
def test_every_way(level: str, x_shape: tuple[int, ...], w_shape: tuple[int, ...], attributes: dict[str, Any]) -> None:
    square = w_shape[2:] in ((3, 3), (5, 5)) and not {"strides", "dilations", "group"} & set(attributes)
    assert check(level, x_shape, w_shape, attributes) == (2 if square and level != "reference" else 1)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_odd_shapes(data: st.DataObject) -> None:
    x, w, attributes = odd_shape(data, [(1, 1), (3, 3), (5, 5), (2, 3), (1, 7), (7, 7)], 23)
    if data.draw(st.booleans()):
        attributes = {"pads": attributes["pads"], "group": attributes["group"]}
    check(data.draw(st.sampled_from(LEVELS)), x, w, attributes)


@pytest.mark.parametrize("level", LEVELS[1:])
def test_several_groups_of_tiles_and_chunks_of_pixels(level: str) -> None:
    """More tiles than the third-level cache holds, and more pixels than the second."""
    check(level, (6, 96, 45, 47), (80, 96, 3, 3), {"pads": (1, 1, 1, 1)})


@pytest.mark.parametrize("level", LEVELS[1:])
@pytest.mark.parametrize(("name", "kernel"), [("pixels", 3), ("winograd_3x3_4x4", 3), ("winograd_5x5_4x4", 5)])
def test_error_relative_to_the_largest_gradient(level: str, name: str, kernel: int) -> None:
    """As stated, on images after a ReLU; and not far below, or the statement would tell nothing."""
    worst = 0.0
    for batch, channels, outputs, side in ((2, 64, 48, 28), (4, 96, 32, 14), (16, 48, 64, 7)):
        generator = np.random.default_rng(channels)
        x = np.maximum(generator.normal(size=(batch, channels, side, side)), 0).astype(np.float32)
        w_shape = (outputs, channels, kernel, kernel)
        shape = convolution_shape(x.shape, w_shape, {"pads": (kernel // 2,) * 4})
        dy = generator.normal(size=shape.output).astype(np.float32)
        expected = exact(x, dy, w_shape, shape)
        worst = max(worst, float(np.max(np.abs(run(level, name, x, dy, w_shape, shape, 2) - expected)) / np.max(np.abs(expected))))
    assert gradients.ACCURACY[name] / 40 < worst <= gradients.ACCURACY[name], f"{worst:.2g}"


def test_slices_of_wider_tensors() -> None:
    generator, shape = np.random.default_rng(2), convolution_shape((2, 6, 9, 9), (7, 6, 3, 3), {"pads": (1, 1, 1, 1)})
    x, dy = (generator.normal(size=size).astype(np.float32) for size in ((2, 9, 9, 6), (2, 9, 9, 7)))
    wide_x, wide_dy = np.full((2, 9, 9, 11), np.nan, np.float32), np.full((2, 9, 9, 20), np.nan, np.float32)
    wide_x[..., 2:8], wide_dy[..., 5:12] = x, dy
    for level in LEVELS:
        for name in gradients.names_for(shape, 1.0, level):
            expected = gradients.weight_gradient(name, x, dy, shape, level=level)
            np.testing.assert_array_equal(
                gradients.weight_gradient(name, wide_x[..., 2:8], wide_dy[..., 5:12], shape, level=level), expected
            )


def test_bad_arrays_are_named() -> None:
    module, shape = importlib.import_module("convsmith._native"), convolution_shape((1, 3, 5, 5), (4, 3, 3, 3), {})
    level, numbers = LEVELS[-1], native.sizes(shape)
    x, dy, dw = np.zeros(75, np.float32), np.zeros(36, np.float32), np.zeros(108, np.float32)
    workspace = native.aligned_floats(module.gradient_workspace_bytes(level, "pixels", numbers, 1) // 4)
    with pytest.raises(ValueError, match="dy is too short, out of range or not aligned"):
        module.weight_gradient(level, "pixels", numbers, x, dy[1:], dw, workspace, 1)
    with pytest.raises(ValueError, match="workspace is too short, out of range or not aligned"):
        module.weight_gradient(level, "pixels", numbers, x, dy, dw, workspace[1:], 1)
    with pytest.raises(ValueError, match="gradient winograd_5x5_4x4 does not support this convolution"):
        module.weight_gradient(level, "winograd_5x5_4x4", numbers, x, dy, dw, workspace, 1)
    with pytest.raises(ValueError, match="no such level: avx1"):
        module.gradient_workspace_bytes("avx1", "pixels", numbers, 1)
    with pytest.raises(UsageError, match=r"dy_nhwk is float32 \(1, 3, 4, 3\), must be float32 \(1, 3, 3, 4\)"):
        gradients.weight_gradient("pixels", x.reshape(1, 5, 5, 3), dy.reshape(1, 3, 4, 3), shape)
