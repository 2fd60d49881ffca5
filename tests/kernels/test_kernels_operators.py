"""Reference operators against torch (float64) and ONNX's own reference evaluator."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from onnx.reference import ReferenceEvaluator
from scipy.special import erf, expit, log_softmax, softmax
from torch.nn import functional as F

from convsmith.errors import UnsupportedError
from convsmith.kernels import reference

X = np.random.default_rng(0).normal(size=(2, 4, 7, 6)) * 3
T = torch.tensor(X)
C = np.random.default_rng(1).uniform(0.5, 2, size=(4, 4))


def run(op: str, *inputs: np.ndarray | None, **attributes: object) -> np.ndarray:
    (result,) = reference.run(op, inputs, attributes)
    return result


def ints(*values: int) -> np.ndarray:
    return np.asarray(values, np.int64)


TORCH: list[tuple[str, tuple, dict, Callable[[], torch.Tensor]]] = [
    ("Relu", (X,), {}, lambda: F.relu(T)),
    ("HardSwish", (X,), {}, lambda: F.hardswish(T)),
    ("HardSigmoid", (X,), {"alpha": 1 / 6, "beta": 0.5}, lambda: F.hardsigmoid(T)),
    ("Softplus", (X,), {}, lambda: F.softplus(T)),
    ("Mish", (X,), {}, lambda: F.mish(T)),
    ("Gelu", (X,), {}, lambda: F.gelu(T)),
    ("Gelu", (X,), {"approximate": "tanh"}, lambda: F.gelu(T, approximate="tanh")),
    ("LeakyRelu", (X,), {"alpha": 0.1}, lambda: F.leaky_relu(T, 0.1)),
    ("Elu", (X,), {"alpha": 0.7}, lambda: F.elu(T, 0.7)),
    ("PRelu", (X, C[0][:, None, None]), {}, lambda: F.prelu(T, torch.tensor(C[0]))),
    ("Clip", (X, np.float64(0), np.float64(6)), {}, lambda: F.relu6(T)),
    ("Clip", (X, None, np.float64(1)), {}, lambda: T.clamp(max=1)),
    ("MaxPool", (X,), {"kernel_shape": (3, 2), "strides": (2, 1), "pads": (1, 1, 1, 1)}, lambda: F.max_pool2d(T, (3, 2), (2, 1), 1)),
    ("MaxPool", (X,), {"kernel_shape": (2, 2), "strides": (2, 2), "ceil_mode": 1}, lambda: F.max_pool2d(T, 2, ceil_mode=True)),
    (
        "MaxPool",
        (X,),
        {"kernel_shape": (2, 2), "strides": (3, 3), "pads": (1, 1, 1, 1), "ceil_mode": 1},
        lambda: F.max_pool2d(T, 2, 3, 1, ceil_mode=True),
    ),
    ("MaxPool", (X,), {"kernel_shape": (2, 2), "dilations": (2, 3)}, lambda: F.max_pool2d(T, 2, 1, 0, (2, 3))),
    (
        "AveragePool",
        (X,),
        {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1)},
        lambda: F.avg_pool2d(T, 3, 2, 1, count_include_pad=False),
    ),
    (
        "AveragePool",
        (X,),
        {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1), "count_include_pad": 1},
        lambda: F.avg_pool2d(T, 3, 2, 1),
    ),
    ("AveragePool", (X,), {"kernel_shape": (2, 2), "strides": (2, 2), "ceil_mode": 1}, lambda: F.avg_pool2d(T, 2, ceil_mode=True)),
    (
        "AveragePool",
        (X,),
        {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1), "ceil_mode": 1, "count_include_pad": 1},
        lambda: F.avg_pool2d(T, 3, 2, 1, ceil_mode=True),
    ),
    ("GlobalAveragePool", (X,), {}, lambda: F.adaptive_avg_pool2d(T, 1)),
    ("GlobalMaxPool", (X,), {}, lambda: F.adaptive_max_pool2d(T, 1)),
    ("BatchNormalization", (X, *C), {"epsilon": 1e-3}, lambda: F.batch_norm(T, *map(torch.tensor, (C[2], C[3], C[0], C[1])), eps=1e-3)),
    (
        "LayerNormalization",
        (X, C[0, :1] * np.ones(6), np.ones(6)),
        {"axis": -1},
        lambda: F.layer_norm(T, (6,), torch.tensor(C[0, :1] * np.ones(6)), torch.ones(6).double()),
    ),
    ("LRN", (X,), {"size": 3, "alpha": 0.5, "beta": 0.6, "bias": 2.0}, lambda: F.local_response_norm(T, 3, 0.5, 0.6, 2.0)),
    (
        "Gemm",
        (X[0, 0], X[0, 1], C[0, :1]),
        {"transB": 1, "alpha": 0.5, "beta": 2.0},
        lambda: torch.addmm(torch.tensor(C[0, :1]), T[0, 0], T[0, 1].t(), beta=2, alpha=0.5),
    ),
    ("Pad", (X, ints(0, 0, 1, 2, 0, 0, 3, 1)), {"mode": "reflect"}, lambda: F.pad(T, (2, 1, 1, 3), mode="reflect")),
    ("Pad", (X, ints(0, 0, -1, 2, 0, 0, 0, -2), np.float64(7)), {"mode": "constant"}, lambda: F.pad(T, (2, -2, -1, 0), value=7)),
    (
        "Resize",
        (X, None, np.asarray([1, 1, 2, 3])),
        {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        lambda: F.interpolate(T, scale_factor=(2, 3)),
    ),
    ("DepthToSpace", (X,), {"blocksize": 2, "mode": "CRD"}, lambda: F.pixel_shuffle(T, 2)),
    ("Round", (X,), {}, lambda: torch.round(T)),
]


@pytest.mark.parametrize(("op", "inputs", "attributes", "expected"), TORCH, ids=lambda value: value if isinstance(value, str) else "")
def test_equals_torch(op: str, inputs: tuple, attributes: dict, expected: Callable[[], torch.Tensor]) -> None:
    y = run(op, *inputs, **attributes)
    assert y.dtype == np.float64
    np.testing.assert_allclose(y, expected().numpy(), rtol=1e-12, atol=1e-12)  # float64 on both sides


ONNX: list[tuple[str, tuple, dict]] = [
    ("Reshape", (X, ints(0, -1, 3)), {}),
    ("Flatten", (X,), {"axis": 2}),
    ("Transpose", (X,), {"perm": [0, 3, 1, 2]}),
    ("Transpose", (X,), {}),
    ("Concat", (X, X), {"axis": 1}),
    ("Slice", (X, ints(-3, 1), ints(99, 5), ints(2, 3), ints(1, 2)), {}),
    ("Slice", (X, ints(-1), ints(-99), ints(3), ints(-2)), {}),
    ("Gather", (X, ints(2, 0)), {"axis": 1}),
    ("Gather", (X, np.asarray(-1)), {"axis": 2}),
    ("Pad", (X, ints(1, 2), np.float64(3), ints(2)), {}),
    ("Squeeze", (X[:1, :, :1], ints(0, 2)), {}),
    ("Unsqueeze", (X, ints(0, 3)), {}),
    ("Expand", (X[:, :1], ints(4, 1, 1)), {}),
    ("Tile", (X, ints(1, 2, 1, 2)), {}),
    ("Shape", (X,), {"start": 1}),
    ("Range", (np.asarray(2), np.asarray(11), np.asarray(3)), {}),
    ("Cast", (X,), {"to": 7}),
    ("ReduceMean", (X, ints(2, 3)), {"keepdims": 0}),
    ("ReduceSum", (X, ints(1)), {}),
    ("ReduceMax", (X, ints(1)), {}),
    ("ReduceMin", (X,), {"keepdims": 0}),
    ("ArgMax", (X,), {"axis": 1}),
    ("DepthToSpace", (X,), {"blocksize": 2}),
    ("Div", (ints(7, -7), ints(2, 2)), {}),
    ("Mod", (ints(7, -7), ints(4, 4)), {}),
    ("Pow", (np.abs(X), np.float64(1.5)), {}),
    ("Where", (X > 0, X, -X), {}),
    ("Min", (X, -X, np.zeros(1)), {}),
    ("Max", (X, np.ones(1)), {}),
    ("Equal", (ints(1, 2), ints(1, 3)), {}),
    ("Sign", (X,), {}),
    ("Floor", (X,), {}),
    ("Ceil", (X,), {}),
    ("MatMul", (X, X[0].transpose(0, 2, 1)), {}),
]


@pytest.mark.parametrize(("op", "inputs", "attributes"), ONNX, ids=lambda value: value if isinstance(value, str) else "")
def test_equals_the_onnx_reference(op: str, inputs: tuple, attributes: dict) -> None:
    names = [f"x{i}" for i in range(len(inputs))]
    values = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in zip(names, inputs, strict=True)
    ]
    node = helper.make_node(op, names, ["y"], **attributes)
    graph = helper.make_graph([node], "g", values, [helper.make_tensor_value_info("y", onnx.TensorProto.UNDEFINED, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    (expected,) = ReferenceEvaluator(model).run(None, dict(zip(names, inputs, strict=True)))
    y = run(op, *inputs, **{key: tuple(v) if isinstance(v, list) else v for key, v in attributes.items()})
    assert y.dtype == expected.dtype
    np.testing.assert_allclose(y, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(
    ("op", "expected"),
    [("Sigmoid", expit), ("Erf", erf), ("Softmax", lambda x: softmax(x, -1)), ("LogSoftmax", lambda x: log_softmax(x, -1))],
)
def test_equals_scipy(op: str, expected: Callable[[np.ndarray], np.ndarray]) -> None:
    np.testing.assert_allclose(run(op, X), expected(X), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("op", ["Sigmoid", "Softplus", "Softmax", "LogSoftmax", "Mish"])
def test_large_numbers_do_not_overflow(op: str) -> None:
    y = run(op, np.asarray([[-1e4, 0.0, 1e4]], np.float32))
    assert y.dtype == np.float32 and np.isfinite(y).all()


def test_split_by_sizes_and_by_number() -> None:
    parts = reference.run("Split", (X, ints(1, 3)), {"axis": 1})
    np.testing.assert_array_equal(np.concatenate(parts, 1), X)
    assert [part.shape[1] for part in parts] == [1, 3]
    assert [part.shape[2] for part in reference.run("Split", (X,), {"axis": 2, "num_outputs": 2})] == [4, 3]


@pytest.mark.parametrize("op", ["Relu", "Sigmoid", "Tanh", "HardSwish", "Softplus", "Mish", "Gelu", "Softmax", "LRN", "GlobalAveragePool"])
def test_float32_stays_float32(op: str) -> None:
    attributes = {"size": 3} if op == "LRN" else {}
    assert run(op, X.astype(np.float32), **attributes).dtype == np.float32


def test_resize_that_interpolates_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="Resize other than nearest"):
        run("Resize", X, None, np.asarray([1, 1, 2, 2]), mode="linear")
