"""Shape rules against closed forms, and against what the reference kernels really return."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convsmith.errors import UnsupportedError, UsageError
from convsmith.graph import Graph, Node, Value, infer_shapes
from convsmith.graph.shape_rules import RULES
from convsmith.kernels import integer_operators, reference, sign_operators

FLOAT = np.zeros((), np.float32)


def one(op: str, *inputs: np.ndarray | None, outputs: int = 1, constants: bool = True, **attributes: object) -> tuple[Graph, list]:
    """Return a graph of one node whose first input flows and whose others are constants."""
    names = ["x", *(f"c{i}" if array is not None else "" for i, array in enumerate(inputs[1:]))]
    weights = {name: array for name, array in zip(names[1:], inputs[1:], strict=True) if name}
    targets = tuple(f"y{i}" for i in range(outputs))
    node = Node("node", op, tuple(names), targets, attributes)  # type: ignore[arg-type]
    value = Value("x", inputs[0].shape, str(inputs[0].dtype))
    return Graph("g", (value,), (Value("y0", ()),), (node,), weights), list(inputs)


def ints(*values: int) -> np.ndarray:
    return np.asarray(values, np.int64)


X = np.linspace(-1, 1, 2 * 4 * 6 * 5, dtype=np.float32).reshape(2, 4, 6, 5)
W = np.ones((8, 4, 3, 3), np.float32)
CASES: list[tuple[str, tuple, dict]] = [
    ("Conv", (X, W), {"pads": (1, 1, 1, 1), "strides": (2, 2)}),
    ("Conv", (X, W), {"auto_pad": "SAME_UPPER", "strides": (2, 3)}),
    ("Conv", (X, W), {"auto_pad": "SAME_LOWER", "dilations": (2, 1)}),
    ("Conv", (X, W[:, :2], np.ones(8, np.float32)), {"group": 2, "pads": (0, 1, 2, 1)}),
    ("ConvTranspose", (X, np.ones((4, 3, 3, 2), np.float32)), {"strides": (2, 3), "pads": (1, 0, 1, 0), "output_padding": (1, 1)}),
    ("MaxPool", (X,), {"kernel_shape": (3, 2), "strides": (2, 2)}),
    ("MaxPool", (X,), {"kernel_shape": (3, 3), "strides": (2, 2), "ceil_mode": 1}),
    ("AveragePool", (X,), {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1), "count_include_pad": 1}),
    ("GlobalAveragePool", (X,), {}),
    ("GlobalMaxPool", (X,), {}),
    ("Gemm", (X[0, 0], np.ones((7, 5), np.float32), np.ones(7, np.float32)), {"transB": 1}),
    ("Gemm", (X[0, 0], np.ones((6, 7), np.float32)), {"transA": 1}),
    ("MatMul", (X, np.ones((5, 3), np.float32)), {}),
    ("Reshape", (X, ints(0, -1)), {}),
    ("Reshape", (X, ints(-1, 10)), {}),
    ("Flatten", (X,), {"axis": 2}),
    ("Flatten", (X,), {"axis": -1}),
    ("Transpose", (X,), {"perm": (0, 2, 3, 1)}),
    ("Slice", (X, ints(-2), ints(99), ints(2), ints(1)), {}),
    ("Slice", (X, ints(0, 4), ints(9, -9), ints(2, 3), ints(2, -1)), {}),
    ("Gather", (X, ints(0, 2)), {"axis": 1}),
    ("Gather", (X, np.asarray(1, np.int64)), {"axis": 3}),
    ("Pad", (X, ints(0, 1, 2, 0, 0, 0, 1, 3)), {"mode": "constant"}),
    ("Pad", (X, ints(1, 2), None, ints(-1)), {"mode": "reflect"}),
    ("Squeeze", (X[:1, :1], ints(0)), {}),
    ("Squeeze", (X[:1, :1],), {}),
    ("Unsqueeze", (X, ints(1, -1)), {}),
    ("Expand", (X[:1], ints(3, 1, 1, 5)), {}),
    ("Tile", (X, ints(1, 2, 1, 3)), {}),
    ("ReduceMean", (X, ints(2, 3)), {"keepdims": 0}),
    ("ReduceSum", (X, ints(-1)), {}),
    ("ReduceMax", (X,), {"keepdims": 0}),
    ("ReduceMin", (X,), {"keepdims": 1}),
    ("ArgMax", (X,), {"axis": 1, "keepdims": 0}),
    (
        "Resize",
        (X, None, np.asarray([1, 1, 2, 3], np.float32)),
        {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    ),
    ("DepthToSpace", (X,), {"blocksize": 2}),
    ("Add", (X, np.ones((4, 1, 1), np.float32)), {}),
    ("Where", (X > 0, X, FLOAT), {}),
    ("BatchNormalization", (X, *(np.ones(4, np.float32),) * 4), {}),
    ("LayerNormalization", (X, np.ones(5, np.float32)), {}),
    ("LRN", (X,), {"size": 3}),
    ("Softmax", (X,), {}),
    ("Cast", (X,), {"to": 7}),
]


@pytest.mark.parametrize(("op", "inputs", "attributes"), CASES, ids=lambda value: value if isinstance(value, str) else "")
def test_rule_says_what_the_kernel_returns(op: str, inputs: tuple, attributes: dict) -> None:
    graph, arrays = one(op, *inputs, **attributes)
    (result,) = reference.run(op, arrays, attributes)
    assert infer_shapes(graph)["y0"] == result.shape


def test_split_has_one_shape_an_output() -> None:
    graph, _ = one("Split", X, ints(1, 3), outputs=2, axis=1)
    shapes = infer_shapes(graph)
    assert (shapes["y0"], shapes["y1"]) == ((2, 1, 6, 5), (2, 3, 6, 5))


def test_every_operator_with_a_kernel_has_a_rule() -> None:
    assert set(RULES) == set(reference.OPERATORS) | set(integer_operators.OPERATORS) | set(sign_operators.OPERATORS)


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(1, 12),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 4),
    dilation=st.integers(1, 3),
    before=st.integers(0, 3),
    after=st.integers(0, 3),
)
def test_convolution_size_is_the_closed_form(size: int, kernel: int, stride: int, dilation: int, before: int, after: int) -> None:
    x, w = np.zeros((1, 1, size, size), np.float32), np.zeros((1, 1, kernel, kernel), np.float32)
    attributes = {"strides": (stride,) * 2, "dilations": (dilation,) * 2, "pads": (before, before, after, after)}
    graph, _ = one("Conv", x, w, **attributes)
    room = size + before + after - dilation * (kernel - 1) - 1
    if room < 0:
        with pytest.raises(UsageError, match="does not fit"):
            infer_shapes(graph)
    else:
        assert infer_shapes(graph)["y0"] == (1, 1, room // stride + 1, room // stride + 1)


def test_free_batch_takes_the_batch_asked_for() -> None:
    graph = Graph("g", (Value("x", (-1, 3)),), (Value("y", (-1, 3)),), (Node("r", "Relu", ("x",), ("y",)),), {})
    assert infer_shapes(graph, 7)["y"] == (7, 3)


def test_other_free_axes_need_a_size() -> None:
    graph = Graph("g", (Value("x", (-1, 3, -1)),), (Value("y", ()),), (Node("r", "Relu", ("x",), ("y",)),), {})
    with pytest.raises(UsageError, match=r"input 'x' has free axes \(-1, 3, -1\); give its size in sizes="):
        infer_shapes(graph)
    assert infer_shapes(graph, sizes={"x": (2, 3, 5)})["y"] == (2, 3, 5)


def test_computed_shapes_are_followed() -> None:
    nodes = (
        Node("shape", "Shape", ("x",), ("shape",)),
        Node("batch", "Gather", ("shape", "zero"), ("batch",), {"axis": 0}),
        Node("raised", "Unsqueeze", ("batch", "axis"), ("raised",)),
        Node("target", "Concat", ("raised", "rest"), ("target",), {"axis": 0}),
        Node("y", "Reshape", ("x", "target"), ("y",)),
    )
    weights = {"zero": np.asarray(0, np.int64), "axis": ints(0), "rest": ints(-1)}
    graph = Graph("g", (Value("x", (-1, 3, 4)),), (Value("y", ()),), nodes, weights)
    assert infer_shapes(graph, 5)["y"] == (5, 12)


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "message"),
    [
        (
            "Conv",
            (X, np.ones((8, 3, 3, 3), np.float32)),
            {},
            r"node 'node' \(Conv\) cannot take shapes \(2, 4, 6, 5\), \(8, 3, 3, 3\): .* has 4 channels, weights .* need 3",
        ),
        ("Conv", (X, W, np.ones(7, np.float32)), {}, r"input 2 has shape \(7,\); 8 channels need \(8,\)"),
        ("Gemm", (X[0, 0], np.ones((4, 7), np.float32)), {}, "inner sizes 5 and 4 differ"),
        ("MatMul", (X, np.ones((4, 3), np.float32)), {}, "inner sizes 5 and 4 differ"),
        ("Reshape", (X, ints(7, -1)), {}, r"240 numbers do not fill \(7, -1\)"),
        ("Add", (X, np.ones(3, np.float32)), {}, "cannot be broadcast"),
        ("MaxPool", (X,), {}, "attribute 'kernel_shape' is missing"),
        ("BatchNormalization", (X, *(np.ones(5, np.float32),) * 4), {}, r"input 1 has shape \(5,\); 4 channels need \(4,\)"),
    ],
)
def test_misfits_name_node_and_shapes(op: str, inputs: tuple, attributes: dict, message: str) -> None:
    graph, _ = one(op, *inputs, **attributes)
    with pytest.raises(UsageError, match=message):
        infer_shapes(graph)


def test_unknown_operator_is_named() -> None:
    graph, _ = one("Cnv", X)
    with pytest.raises(UnsupportedError, match=r"node 'node': no shape rule for operator 'Cnv'. Did you mean 'Conv'\?"):
        infer_shapes(graph)
