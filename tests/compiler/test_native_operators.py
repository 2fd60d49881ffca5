"""Every native operator on odd shapes, at every instruction level, against the interpreter in float64."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from convsmith.compiler import build, interpret
from convsmith.graph import Graph, Node, Value
from convsmith.kernels import instruction_sets

LEVELS = instruction_sets()[1:]
Array = np.ndarray[Any, Any]


@pytest.fixture(params=LEVELS)
def level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("CONVSMITH_ISA", request.param)
    yield request.param


def graph_of(op: str, x: Array, attributes: dict[str, Any] | None = None, constants: tuple[Array | None, ...] = ()) -> Graph:
    """One operator between a ReLU-free input and an output; constants follow the input."""
    names = tuple("" if array is None else f"c{i}" for i, array in enumerate(constants))
    weights = {name: array for name, array in zip(names, constants, strict=True) if array is not None}
    node = Node("node", op, ("x", *names), ("y",), attributes or {})
    return Graph("g", (Value("x", (-1, *x.shape[1:])),), (Value("y", ()),), (node,), weights)


def compare(graph: Graph, *inputs: Array, tolerance: float = 3e-6) -> None:
    """The engine within ``tolerance`` of the largest exact value, shape and type alike."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # logarithms of negative numbers are compared too
        expected = interpret(graph)(*(x.astype(np.float64) for x in inputs))
    actual = build(graph, threads=2)(*inputs)
    for want, got in zip(*((v if isinstance(v, tuple) else (v,)) for v in (expected, actual)), strict=True):
        assert got.dtype == np.float32 and got.shape == want.shape
        finite = np.isfinite(want)
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
        np.testing.assert_allclose(got[finite], want[finite], rtol=0, atol=tolerance * max(1e-30, np.abs(want[finite]).max(initial=0)))


def numbers(*shape: int, seed: int = 0, scale: float = 2.0) -> Array:
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


UNARY: list[tuple[str, dict[str, Any]]] = [
    ("Relu", {}), ("Sigmoid", {}), ("Tanh", {}), ("HardSwish", {}), ("HardSigmoid", {}), ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    ("Softplus", {}), ("Mish", {}), ("Gelu", {}), ("Gelu", {"approximate": "tanh"}), ("LeakyRelu", {"alpha": 0.2}), ("Elu", {"alpha": 1.5}),
    ("Erf", {}), ("Exp", {}), ("Log", {}), ("Sqrt", {}), ("Abs", {}), ("Neg", {}), ("Floor", {}), ("Ceil", {}), ("Round", {}), ("Sign", {}),
    ("Reciprocal", {}), ("Identity", {}),
]  # fmt: skip


@pytest.mark.parametrize(("op", "attributes"), UNARY)
def test_functions_of_one_number(level: str, op: str, attributes: dict[str, Any]) -> None:
    x = numbers(2, 19, 3, 5)
    x[0, 0, 0] = 0, -0.5, 0.5, np.nan, 2.5
    compare(graph_of(op, x, attributes), x)
    compare(graph_of(op, x.reshape(2, -1), attributes), x.reshape(2, -1))


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Max", "Min", "PRelu"])
@pytest.mark.parametrize("shape", [(2, 19, 3, 5), (19, 1, 1), (1, 1, 1, 5), (1,), (2, 1, 1, 1)])
def test_functions_of_two_numbers_broadcast(level: str, op: str, shape: tuple[int, ...]) -> None:
    x = numbers(2, 19, 3, 5)
    compare(graph_of(op, x, {}, (numbers(*shape, seed=1),)), x)


def test_constants_may_come_first_and_powers_are_exact(level: str) -> None:
    x = np.abs(numbers(2, 7, 3, 3)) + 0.1
    nodes = (
        Node("a", "Sub", ("one", "x"), ("a",)),
        Node("b", "Pow", ("x", "two"), ("b",)),
        Node("c", "Pow", ("x", "third"), ("c",)),
        Node("d", "Clip", ("a", "low", ""), ("d",)),
    )
    weights = {"one": np.float32(1), "two": np.float32(2), "third": np.float32(1 / 3), "low": np.float32(-0.25)}
    values = tuple(Value(name, ()) for name in "abcd")
    compare(Graph("g", (Value("x", (-1, 7, 3, 3)),), values, nodes, weights), x)


@pytest.mark.parametrize("channels", [1, 3, 16, 37])
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": (2, 2), "strides": (2, 2)},
        {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1), "ceil_mode": 1},
        {"kernel_shape": (3, 2), "strides": (1, 2), "pads": (1, 0, 0, 1), "count_include_pad": 1, "ceil_mode": 1},
        {"kernel_shape": (2, 3), "auto_pad": "SAME_UPPER", "strides": (2, 1)},
    ],
)
def test_pooling(level: str, op: str, channels: int, attributes: dict[str, Any]) -> None:
    x = numbers(2, channels, 8, 7)
    given = {k: v for k, v in attributes.items() if op == "AveragePool" or k != "count_include_pad"}
    compare(graph_of(op, x, given), x)


@pytest.mark.parametrize("shape", [(2, 37, 5, 7), (1, 3, 65, 2), (2, 1, 3, 3)])
@pytest.mark.parametrize("axes", [(2, 3), (1,), (-1,), (0, 2), None])
@pytest.mark.parametrize("keep", [0, 1])
def test_reductions(level: str, shape: tuple[int, ...], axes: tuple[int, ...] | None, keep: int) -> None:
    x = numbers(*shape)
    for op in ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"):
        given = (None if axes is None else np.asarray(axes),)
        compare(graph_of(op, x, {"keepdims": keep}, given), x, tolerance=1e-5)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize(("shape", "axis"), [((3, 10), -1), ((2, 19, 3, 5), 1), ((2, 19, 3, 5), 3), ((2, 4, 33), 1)])
def test_softmax(level: str, op: str, shape: tuple[int, ...], axis: int) -> None:
    x = numbers(*shape, scale=5.0)
    compare(graph_of(op, x, {"axis": axis}), x)


def test_normalisation(level: str) -> None:
    x = numbers(2, 19, 4, 3)
    vectors = numbers(19, seed=1), numbers(19, seed=2), numbers(19, seed=3), np.abs(numbers(19, seed=4)) + 0.1
    compare(graph_of("BatchNormalization", x, {"epsilon": 1e-3}, vectors), x)
    compare(graph_of("BatchNormalization", x[:, :, 0, 0], {}, vectors), np.ascontiguousarray(x[:, :, 0, 0]))
    compare(graph_of("LRN", x, {"size": 5, "alpha": 0.3, "bias": 2.0}), x)
    compare(graph_of("LRN", x, {"size": 4, "alpha": 0.3, "beta": 0.6}), x)
    compare(graph_of("LayerNormalization", x, {"axis": -1}, (numbers(3, seed=5), numbers(3, seed=6))), x, tolerance=1e-5)
    compare(graph_of("LayerNormalization", x, {"axis": 1}, (numbers(19, 4, 3, seed=5), None)), x, tolerance=1e-5)


@pytest.mark.parametrize(
    ("op", "attributes", "constants"),
    [
        ("Transpose", {"perm": (0, 2, 3, 1)}, ()),
        ("Flatten", {}, ()),
        ("Reshape", {}, (np.asarray((0, 5, -1)),)),
        ("Slice", {}, (np.asarray((5, 3)), np.asarray((0, -9)), np.asarray((1, 2)), np.asarray((-2, -1)))),
        ("Split", {"axis": 1, "num_outputs": 1}, ()),
        ("Unsqueeze", {}, (np.asarray((1,)),)),
        ("Expand", {}, (np.asarray((2, 10, 4, 3)),)),
        ("Tile", {}, (np.asarray((1, 2, 1, 3)),)),
        ("Gather", {"axis": 1}, (np.asarray((3, -1, 0)),)),
        ("Gather", {"axis": 2}, (np.asarray(1),)),
        ("Resize", {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}, (None, np.float32((1, 1, 2, 3)))),
        ("DepthToSpace", {"blocksize": 1, "mode": "CRD"}, ()),
        ("Cast", {"to": 1}, ()),
        ("Pad", {}, (np.asarray((0, 1, 2, 0, 0, 0, 1, 3)), np.float32(0.5))),
        ("Pad", {"mode": "reflect"}, (np.asarray((0, 0, 2, 1, 0, 0, 3, 2)),)),
        ("Pad", {"mode": "edge"}, (np.asarray((0, 2, 0, 1, 0, 1, 0, 2)),)),
        ("Pad", {"mode": "wrap"}, (np.asarray((2, 1, 1, 2)), None, np.asarray((2, 3)))),
        ("Pad", {}, (np.asarray((0, 0, -1, 0, 0, 0, -1, 1)),)),
    ],
)
def test_moving_numbers_is_exact(level: str, op: str, attributes: dict[str, Any], constants: tuple[Array | None, ...]) -> None:
    x = numbers(2, 10, 4, 3)
    graph = graph_of(op, x, attributes, constants)
    # a convolution before it, so that the operand lies as NHWC
    w = np.eye(10, dtype=np.float32)[:, :, None, None]
    nodes = (Node("conv", "Conv", ("x", "w"), ("conv",)), Node("node", op, ("conv", *graph.nodes[0].inputs[1:]), ("y",), attributes))
    after = Graph("g", graph.inputs, graph.outputs, nodes, {**graph.weights, "w": w})
    for case in (graph, after):
        np.testing.assert_array_equal(build(case, threads=2)(x), interpret(graph)(x))


def test_depth_to_space_of_both_kinds(level: str) -> None:
    x = numbers(2, 12, 3, 2)
    for mode in ("DCR", "CRD"):
        graph = graph_of("DepthToSpace", x, {"blocksize": 2, "mode": mode})
        np.testing.assert_array_equal(build(graph)(x), interpret(graph)(x))


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("attributes", [{}, {"strides": (2, 3), "pads": (1, 0, 1, 2), "output_padding": (1, 0)}, {"dilations": (2, 1)}])
def test_transposed_convolution(level: str, groups: int, attributes: dict[str, Any]) -> None:
    x, w = numbers(2, 6, 4, 5), numbers(6, 5, 3, 2, seed=1)
    compare(graph_of("ConvTranspose", x, {**attributes, "group": groups}, (w, numbers(5 * groups, seed=2))), x)


def test_convolutions_of_both_ranks(level: str) -> None:
    x = numbers(2, 6, 9, 8)
    pads = {"strides": (2, 1), "pads": (1, 0, 2, 1), "dilations": (1, 2), "group": 2}
    compare(graph_of("Conv", x, pads, (numbers(8, 3, 3, 2, seed=1), numbers(8, seed=2))), x)
    compare(graph_of("Conv", x[:, :, 0], {"pads": (1, 1), "strides": (2,)}, (numbers(4, 6, 3, seed=1),)), np.ascontiguousarray(x[:, :, 0]))


@pytest.mark.parametrize("attributes", [{}, {"transB": 1, "alpha": 0.5, "beta": 2.0}])
@pytest.mark.parametrize("c", [(7,), (1, 7), (3, 1), (1,), None])
def test_matrix_product_with_constants(level: str, attributes: dict[str, Any], c: tuple[int, ...] | None) -> None:
    x, w = numbers(3, 33), numbers(*((7, 33) if "transB" in attributes else (33, 7)), seed=1)
    compare(graph_of("Gemm", x, attributes, (w, None if c is None else numbers(*c, seed=2))), x)


@pytest.mark.parametrize(
    ("a", "b"), [((2, 3, 5, 7), (2, 3, 7, 4)), ((2, 3, 5, 7), (7, 4)), ((2, 3, 5, 7), (1, 1, 7, 4)), ((2, 1, 5, 7), (2, 3, 7, 4))]
)
def test_matrix_products_of_values(level: str, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    x, w = numbers(*a), numbers(*b, seed=1)
    node = Node("node", "MatMul", ("x", "w"), ("y",))
    compare(Graph("g", (Value("x", a), Value("w", b)), (Value("y", ()),), (node,), {}), x, w)
    compare(graph_of("MatMul", x, {}, (w,)), x)
