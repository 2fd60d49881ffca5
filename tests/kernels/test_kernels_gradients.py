"""The native gradient of convolution weights at every instruction set, against float64."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
import torch

from convsmith.kernels import convolution_shape, instruction_sets, native

Array = np.ndarray[Any, Any]
U = 2.0**-24

CASES = [
    ((2, 5, 9, 8), (7, 5, 3, 3), {"pads": (1, 1, 1, 1)}),
    ((1, 33, 7, 6), (49, 33, 1, 1), {}),
    ((2, 16, 9, 11), (32, 16, 3, 3), {"pads": (1, 0, 2, 1), "strides": (2, 2)}),
    ((3, 12, 8, 8), (18, 4, 5, 3), {"pads": (2, 2, 2, 2), "group": 3, "strides": (1, 2)}),
    ((1, 17, 10, 9), (17, 1, 3, 3), {"pads": (1, 1, 1, 1), "group": 17}),
    ((2, 3, 13, 12), (40, 3, 3, 3), {"pads": (2, 2, 2, 2), "dilations": (2, 2)}),
    ((1, 4, 5, 3), (6, 4, 5, 5), {"pads": (4, 4, 4, 4)}),
    ((40, 30, 12, 12), (70, 30, 3, 3), {"pads": (1, 1, 1, 1)}),
]


def exact(x: Array, dy: Array, w_shape: tuple[int, ...], attributes: dict[str, Any]) -> Array:
    """Return the gradient in float64 by torch."""
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    padded = torch.nn.functional.pad(torch.tensor(x, dtype=torch.float64), (left, right, top, bottom))
    stride, dilation = attributes.get("strides", (1, 1)), attributes.get("dilations", (1, 1))
    return torch.nn.grad.conv2d_weight(
        padded, w_shape, torch.tensor(dy, dtype=torch.float64), stride, 0, dilation, attributes.get("group", 1)
    ).numpy()


@pytest.mark.parametrize("level", instruction_sets())
@pytest.mark.parametrize(("x_shape", "w_shape", "attributes"), CASES)
def test_the_gradient_of_weights(level: str, x_shape: tuple[int, ...], w_shape: tuple[int, ...], attributes: dict[str, Any]) -> None:
    """Within the bound of any order of summation, n u / (1 - n u) times the sum of magnitudes; the same bits for any threads."""
    module, shape = importlib.import_module("convsmith._native"), convolution_shape(x_shape, w_shape, attributes)
    generator = np.random.default_rng(0)
    x, dy = (generator.normal(size=size).astype(np.float32) for size in (x_shape, shape.output))
    flat = [np.ascontiguousarray(array.transpose(0, 2, 3, 1)).reshape(-1) for array in (x, dy)]
    size = module.gradient_workspace_bytes(level, native.sizes(shape)) // 4
    found = []
    for threads in (1, 3):
        dw, workspace = np.full(w_shape, np.nan, np.float32), native.aligned_floats(size + 16)
        workspace[:] = np.nan
        module.weight_gradient(level, native.sizes(shape), *flat, dw.reshape(-1), workspace[:size], threads)
        assert np.isnan(workspace[size:]).all()
        found.append(dw)
    np.testing.assert_array_equal(found[0], found[1])
    terms = shape.batch * int(np.prod(shape.windows.output))
    bound = terms * U / (1 - terms * U) * exact(np.abs(x), np.abs(dy), w_shape, attributes)
    assert np.all(np.abs(found[0] - exact(x, dy, w_shape, attributes)) <= bound + 1e-37)


def test_bad_arrays_are_named() -> None:
    module, shape = importlib.import_module("convsmith._native"), convolution_shape((1, 3, 5, 5), (4, 3, 3, 3), {})
    level, numbers = instruction_sets()[-1], native.sizes(shape)
    x, dy, dw = np.zeros(75, np.float32), np.zeros(36, np.float32), np.zeros(108, np.float32)
    workspace = native.aligned_floats(module.gradient_workspace_bytes(level, numbers) // 4)
    with pytest.raises(ValueError, match="dy is too short, out of range or not aligned"):
        module.weight_gradient(level, numbers, x, dy[1:], dw, workspace, 1)
    with pytest.raises(ValueError, match="no such level: avx1"):
        module.gradient_workspace_bytes("avx1", numbers)
