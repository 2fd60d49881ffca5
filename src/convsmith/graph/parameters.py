"""Which weights of a graph training would change, and which node they belong to."""

from __future__ import annotations

from convsmith.graph.network import Graph, Node

FIXED_INPUTS = {"BatchNormalization": (3, 4), "Clip": (1, 2), "Pad": (1, 2, 3), "Resize": (1, 2, 3)}
"""Inputs that are measured (running statistics) or chosen (limits, scales), not learned."""


def learned(graph: Graph) -> dict[str, tuple[str, ...]]:
    """Return, for each node that has any, the names of the weights it learns; a shared weight belongs to its first reader.

    Not learned: whole numbers, single numbers, running statistics, limits, and matrices of ``MatMul`` with more than two
    axes (those of a resampling).
    """
    owned: dict[str, tuple[str, ...]] = {}
    fixed = {source for node in graph for index, source in enumerate(node.inputs) if is_fixed(graph, node, index)}
    taken: set[str] = set()
    for node in graph:
        names = tuple(dict.fromkeys(s for s in node.inputs if s in graph.weights and s not in fixed and s not in taken))
        if names:
            owned[node.name] = names
            taken.update(names)
    return owned


def is_fixed(graph: Graph, node: Node, index: int) -> bool:
    """Tell whether an input is a constant that training leaves alone."""
    array = graph.weights.get(node.inputs[index])
    if array is None:
        return False
    chosen = index in FIXED_INPUTS.get(node.op, ()) or (node.op == "MatMul" and array.ndim > 2)
    return chosen or array.ndim == 0 or array.dtype.kind != "f"
