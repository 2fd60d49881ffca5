"""Codes in torch: bit for bit the plain integer interpretation and the native engine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from convsmith import compiler, models, precision
from convsmith.errors import UnsupportedError
from convsmith.interop import pytorch, torch_integers
from convsmith.kernels import integer_operators
from convsmith.redesign import fold_batch_norm


@pytest.mark.parametrize(("name", "size"), [("resnet20", 32), ("mobilenet_v2", 32), ("googlenet", 64)])
def test_a_network_of_codes_is_that_of_the_engine(name: str, size: int) -> None:
    """The graph of integer operators, written to torch, gives the engine's bits; residuals, averages and concatenations are among them."""
    torch.manual_seed(0)
    graph = pytorch.read(models.load(name, classes=10, in_channels=3, input_size=(size, size)).eval(), (1, 3, size, size))
    x = np.random.default_rng(0).standard_normal((4, 3, size, size), np.float32)
    folded, plan = fold_batch_norm(graph), precision.candidate("int8", precision.layout(graph)).plan
    codes = precision.quantise(folded, plan, precision.calibrate(folded, x))
    with torch.no_grad():
        found = pytorch.write(compiler.simplify(codes))(torch.from_numpy(x)).numpy()
    np.testing.assert_array_equal(found, compiler.build(codes, threads=1)(x))


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
@pytest.mark.parametrize("axis", [None, 1])
def test_quantising_is_that_of_numpy(kind: Any, axis: int | None) -> None:
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.standard_normal(4091) * 3, [np.nan, np.inf, -np.inf, 0.125, -0.0]]).astype(np.float32).reshape(-1, 4, 4)
    scale = np.float32(0.25) if axis is None else np.float32([0.25, 0.1, 0.03, 1])
    zero = np.asarray(3, kind) if axis is None else np.asarray([0, 3, 100, 7], kind)
    attributes = {} if axis is None else {"axis": axis}
    expected = integer_operators.quantize_linear((x, np.asarray(scale), zero), attributes)
    found = torch_integers.quantize_linear((torch.from_numpy(x), torch.from_numpy(np.asarray(scale)), zero), attributes)
    np.testing.assert_array_equal(found.numpy(), expected)
    back = torch_integers.dequantize_linear((found, np.asarray(scale), zero), attributes)
    np.testing.assert_array_equal(back.numpy(), integer_operators.dequantize_linear((expected, np.asarray(scale), zero), attributes))


@pytest.mark.parametrize(
    "attributes", [{"pads": (1, 1, 1, 1)}, {"pads": (1, 1, 0, 0), "ceil_mode": 1}, {"count_include_pad": 1, "pads": (1, 1, 1, 1)}]
)
def test_average_pooling_is_that_of_numpy(attributes: dict[str, Any]) -> None:
    x = np.random.default_rng(2).integers(0, 256, (2, 3, 8, 7), np.uint8)
    a = {"kernel_shape": (3, 3), "strides": (2, 2), "x_zero": 100, "factor": 0.7, "zero": 90} | attributes
    found = torch_integers.integer_average_pool((torch.from_numpy(x),), a)
    np.testing.assert_array_equal(found.numpy(), integer_operators.integer_average_pool((x,), a))


def test_codes_of_another_width_are_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"codes of type torch\.int16; allowed are uint8 and int8"):
        torch_integers.quantize_linear((torch.zeros(2), torch.ones(()), torch.zeros((), dtype=torch.int16)), {})
