"""The shape of every value of a graph, by rules of its own; wrong sizes are reported by node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from convsmith.errors import UnsupportedError, UsageError, near
from convsmith.graph.network import Graph, Node, Shape
from convsmith.graph.shape_rules import RULES
from convsmith.kernels import reference

Array = np.ndarray[Any, Any]

COMPUTED = frozenset(
    {"Shape", "Gather", "Concat", "Slice", "Squeeze", "Unsqueeze", "Cast", "Add", "Sub", "Mul", "Div", "Mod", "Min", "Max", "Floor"}
    | {"Ceil", "Reshape", "Range", "Split", "Where", "Equal", "Less", "Greater", "Identity", "ConstantOfShape", "Expand", "Transpose"}
    | {"ReduceMax", "ReduceMin", "ReduceSum", "Neg", "Abs", "Sqrt"}
)
"""Operators of shape arithmetic: evaluated when their inputs are known."""

COMPUTED_LIMIT = 4096
"""Largest array, in numbers, that shape arithmetic carries."""


def infer_shapes(graph: Graph, batch: int = 1, sizes: Mapping[str, Shape] | None = None) -> dict[str, Shape]:
    """Return the shape of every input, weight and node output for one batch size.

    ``sizes`` gives the shapes of inputs whose other axes are free too.

    Raises: ``UnsupportedError`` for an operator without a rule, ``UsageError`` for shapes that do not fit, each naming the node.
    """
    return infer(graph, batch, sizes)[0]


def infer(graph: Graph, batch: int, sizes: Mapping[str, Shape] | None = None) -> tuple[dict[str, Shape], dict[str, Array]]:
    """Return the shapes and, of small values that depend on shapes alone, the numbers."""
    shapes: dict[str, Shape] = {name: array.shape for name, array in graph.weights.items()}
    known: dict[str, Array] = {name: array for name, array in graph.weights.items() if array.size <= COMPUTED_LIMIT}
    for value in graph.inputs:
        shape = (sizes or {}).get(value.name, tuple(batch if axis == 0 and n == -1 else n for axis, n in enumerate(value.shape)))
        if -1 in shape:
            raise UsageError(f"input {value.name!r} has free axes {value.shape}; give its size in sizes={{{value.name!r}: (...)}}")
        shapes[value.name] = shape
    for node in graph:
        given = [shapes[source] if source else None for source in node.inputs]
        results = apply(node, given, [known.get(source) for source in node.inputs])
        for name, (shape, numbers) in zip(node.outputs, results, strict=False):
            shapes[name] = shape
            if numbers is not None:
                known[name] = numbers
    return shapes, known


def apply(node: Node, shapes: Sequence[Shape | None], known: Sequence[Array | None]) -> list[tuple[Shape, Array | None]]:
    """Return shape, and numbers when they are known, of each output of one node."""
    if node.op not in RULES:
        raise UnsupportedError(f"node {node.name!r}: no shape rule for operator {node.op!r}.{near(node.op, RULES)}")
    try:
        if node.op == "Shape":
            array = np.asarray(shapes[0][node.attributes.get("start", 0) : node.attributes.get("end")], np.int64)  # type: ignore[index]
            return [(array.shape, array)]
        complete = all(value is not None for value, shape in zip(known, shapes, strict=True) if shape is not None)
        if complete and node.op in COMPUTED:
            arrays = reference.run(node.op, known, node.attributes)
            return [(array.shape, array if array.size <= COMPUTED_LIMIT else None) for array in arrays]
        return [(tuple(int(n) for n in shape), None) for shape in RULES[node.op](shapes, known, node)]
    except (UsageError, UnsupportedError, ValueError, IndexError, TypeError, KeyError) as error:
        shown = ", ".join("-" if shape is None else str(shape) for shape in shapes)
        kind = UnsupportedError if isinstance(error, UnsupportedError) else UsageError
        raise kind(f"node {node.name!r} ({node.op}) cannot take shapes {shown}: {reason(error)}") from error


def reason(error: Exception) -> str:
    return f"attribute {error} is missing" if isinstance(error, KeyError) else str(error)
