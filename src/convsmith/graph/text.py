"""A graph as text for people."""

from __future__ import annotations

from convsmith.errors import ConvsmithError
from convsmith.graph.network import Graph, Node
from convsmith.graph.shapes import infer_shapes


def describe(graph: Graph) -> str:
    """Return one line a node: name, operator, what it reads, output shape for batch 1 (``?`` when unknown), attributes."""
    try:
        shapes = infer_shapes(graph)
    except ConvsmithError:
        shapes = {}
    rows = [("node", "operator", "reads", "output", "attributes")]
    for node in graph:
        shape = shapes.get(node.outputs[0])
        rows.append(
            (node.name, node.op, read_values(graph, node), "x".join(map(str, shape)) if shape is not None else "?", attributes(node))
        )
    widths = [max(len(line[column]) for line in rows) for column in range(4)]
    lines = ["  ".join([*(cell.ljust(w) for cell, w in zip(line[:4], widths, strict=True)), line[4]]).rstrip() for line in rows]
    ends = [
        f"{kind} {value.name} {value.shape} {value.dtype}"
        for kind, values in (("input", graph.inputs), ("output", graph.outputs))
        for value in values
    ]
    return "\n".join([repr(graph), *ends, *lines])


def read_values(graph: Graph, node: Node) -> str:
    """Return the values that flow in, and weights as their shapes."""
    parts = []
    for source in node.inputs:
        array = graph.weights.get(source)
        parts.append(source or "-" if array is None else "[" + "x".join(map(str, array.shape)) + "]")
    return ", ".join(parts)


def attributes(node: Node) -> str:
    return " ".join(f"{key}={'x'.join(map(str, v)) if isinstance(v, tuple) else v}" for key, v in node.attributes.items())
