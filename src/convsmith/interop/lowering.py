"""Operators that the chosen ONNX operator set lacks, spelled out in older ones."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from convsmith.errors import UnsupportedError
from convsmith.graph import Graph, Node

GELU_SINCE = 20


def lower(graph: Graph, opset: int) -> Graph:
    """Return the graph with ``Gelu`` spelled out for operator sets before 20: ``x / 2 * (1 + erf(x / sqrt(2)))``."""
    if opset < 18:
        raise UnsupportedError(f"operator set {opset}; allowed are 18 and newer")
    if opset >= GELU_SINCE or all(node.op != "Gelu" for node in graph):
        return graph
    weights = dict(graph.weights)
    nodes: list[Node] = []
    for node in graph:
        nodes.extend(gelu(node, weights) if node.op == "Gelu" else [node])
    return dataclasses.replace(graph, nodes=tuple(nodes), weights=weights)


def gelu(node: Node, weights: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]) -> list[Node]:
    """Return the nodes of one GELU; the last has the node's own name and output."""
    if node.attributes.get("approximate", "none") != "none":
        return tanh_gelu(node, weights)
    x, name = node.inputs[0], node.name
    steps = [("Mul", (x, "@root_half"), "scaled"), ("Erf", (f"{name}.scaled",), "erf"), ("Add", (f"{name}.erf", "@one"), "gate")]
    steps.append(("Mul", (x, "@half"), "half"))
    return chain(node, steps, weights)


def tanh_gelu(node: Node, weights: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]) -> list[Node]:
    """Return ``x / 2 * (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))``."""
    x, name = node.inputs[0], node.name
    steps = [
        ("Mul", (x, x), "square"),
        ("Mul", (f"{name}.square", "@cubic"), "cubic"),
        ("Add", (f"{name}.cubic", "@one"), "factor"),
        ("Mul", (f"{name}.factor", x), "inner"),
        ("Mul", (f"{name}.inner", "@root_2_pi"), "scaled"),
        ("Tanh", (f"{name}.scaled",), "tanh"),
        ("Add", (f"{name}.tanh", "@one"), "gate"),
        ("Mul", (x, "@half"), "half"),
    ]
    return chain(node, steps, weights)


NUMBERS = {
    "@one": 1.0,
    "@half": 0.5,
    "@root_half": math.sqrt(0.5),
    "@cubic": 0.044715,
    "@root_2_pi": math.sqrt(2 / math.pi),
}


def chain(
    node: Node,
    steps: list[tuple[str, tuple[str, ...], str]],
    weights: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]],
) -> list[Node]:
    """Return the steps as nodes named after ``node`` (``@...`` is a constant), then ``gate`` times ``half`` as ``node`` itself."""
    nodes = []
    for op, inputs, part in steps:
        weights.update({f"{node.name}.constant{name}": np.asarray(NUMBERS[name], np.float32) for name in inputs if name in NUMBERS})
        sources = tuple(f"{node.name}.constant{name}" if name in NUMBERS else name for name in inputs)
        nodes.append(Node(f"{node.name}.{part}", op, sources, (f"{node.name}.{part}",)))
    return [*nodes, Node(node.name, "Mul", (f"{node.name}.gate", f"{node.name}.half"), node.outputs)]
