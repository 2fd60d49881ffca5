"""The evaluator: a graph with an algorithm chosen for each convolution, run on NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from convsmith.errors import UnsupportedError, UsageError, near
from convsmith.graph import Graph, Node, Value, dying_values
from convsmith.kernels import ALGORITHMS, Algorithm, ConvolutionShape, convolution_shape, integer_operators, reference, sign_operators

Array = np.ndarray[Any, Any]
Step = Callable[[Sequence[Any]], Any]

OPERATORS = {**reference.OPERATORS, **integer_operators.OPERATORS, **sign_operators.OPERATORS}


class Interpreter:
    """A graph ready to run; call it with one array an input, get one output or a tuple of them.

    ``algorithms`` says which algorithm each two-dimensional convolution with constant weights uses. Numbers keep the type
    of the input: float32 weights are exact in float64, so a float64 input gives a float64 oracle.
    """

    def __init__(self, graph: Graph, algorithms: Mapping[str, str]) -> None:
        self.graph = graph
        self.algorithms = dict(algorithms)
        self._dying = dying_values(graph)
        self._steps: dict[str, Step] = {node.name: _step(node, self.algorithms.get(node.name)) for node in graph}

    def __call__(self, *inputs: Array) -> Any:
        check_inputs(self.graph, inputs)
        weights: Mapping[str, Array] = self.graph.weights
        values: dict[str, Array] = {value.name: array for value, array in zip(self.graph.inputs, inputs, strict=True)}
        for node, dying in zip(self.graph, self._dying, strict=True):
            given = [(values[name] if name in values else weights[name]) if name else None for name in node.inputs]
            try:
                result = self._steps[node.name](given)
            except (UsageError, UnsupportedError, ValueError, IndexError) as error:
                shown = ", ".join("-" if array is None else str(array.shape) for array in given)
                kind = UnsupportedError if isinstance(error, UnsupportedError) else UsageError
                raise kind(f"node {node.name!r} ({node.op}) cannot take shapes {shown}: {error}") from error
            values.update(zip(node.outputs, result if isinstance(result, tuple) else (result,), strict=False))
            for name in dying:
                values.pop(name, None)
        outputs = tuple(values[value.name] if value.name in values else weights[value.name] for value in self.graph.outputs)
        return outputs[0] if len(outputs) == 1 else outputs


def interpret(graph: Graph, algorithms: Mapping[str, str] | None = None, default: str = "im2col") -> Interpreter:
    """Return an evaluator of reference kernels, the oracle of the native engine: slow, for float32 and float64.

    ``algorithms`` maps nodes to names of ``kernels.ALGORITHMS``; other convolutions use ``default``.

    Raises: ``UnsupportedError`` naming every node whose operator has no kernel, ``UsageError`` for an unknown algorithm or node.
    """
    unknown = [f"{node.op} (node {node.name!r})" for node in graph if node.op not in OPERATORS]
    if unknown:
        raise UnsupportedError(f"no kernel for {', '.join(unknown)}; export to ONNX or OpenVINO and run it there")
    convolutions = [node.name for node in graph if node.op == "Conv" and node.inputs[1] in graph.weights]
    for name, algorithm in {**(algorithms or {}), "": default}.items():
        if algorithm not in ALGORITHMS:
            raise UsageError(f"no algorithm {algorithm!r}; there are {', '.join(ALGORITHMS)}.{near(algorithm, ALGORITHMS)}")
        if name and name not in convolutions:
            raise UsageError(f"{name!r} is no convolution of graph {graph.name!r}.{near(name, convolutions)}")
    planar = [name for name in convolutions if graph.weights[graph.node(name).inputs[1]].ndim == 4]
    return Interpreter(graph, {name: (algorithms or {}).get(name, default) for name in planar})


def _step(node: Node, algorithm: str | None) -> Step:
    """Return what evaluates one node."""
    if algorithm is not None:
        return Convolution(node, ALGORITHMS[algorithm])
    operator = OPERATORS[node.op]
    return lambda inputs: operator(inputs, node.attributes)


class Convolution:
    """One convolution; the weights are prepared once for each size of input."""

    def __init__(self, node: Node, algorithm: Algorithm) -> None:
        self.node, self.algorithm = node, algorithm
        self._prepared: dict[ConvolutionShape, Any] = {}

    def __call__(self, inputs: Sequence[Any]) -> Array:
        x_nchw, w_kcrs = inputs[0], inputs[1]
        shape = convolution_shape(x_nchw.shape, w_kcrs.shape, self.node.attributes, str(x_nchw.dtype))
        if not self.algorithm.supports(shape):
            raise UnsupportedError(f"algorithm {self.algorithm.name!r} does not support it")
        if shape not in self._prepared:
            self._prepared[shape] = self.algorithm.prepare(w_kcrs, shape)
        y_nkhw: Array = self.algorithm.run(x_nchw, self._prepared[shape], shape)
        bias = inputs[2] if len(inputs) > 2 else None
        return y_nkhw if bias is None else y_nkhw + bias[:, None, None]


def check_inputs(graph: Graph, inputs: Sequence[Array]) -> None:
    """Raise ``UsageError`` unless the arrays fit the inputs of the graph."""
    if len(inputs) != len(graph.inputs):
        raise UsageError(f"graph {graph.name!r} takes {len(graph.inputs)} inputs, got {len(inputs)}")
    for value, array in zip(graph.inputs, inputs, strict=True):
        if not fits(value, array.shape):
            raise UsageError(f"input {value.name!r} has shape {value.shape} (-1 is any size), got {array.shape}")


def fits(value: Value, shape: tuple[int, ...]) -> bool:
    return len(shape) == len(value.shape) and all(n in (-1, given) for n, given in zip(value.shape, shape, strict=True))
