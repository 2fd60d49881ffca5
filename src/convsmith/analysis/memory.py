"""How much memory the activations of a graph need at once, when each is freed after its last reader."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from convsmith.graph import Graph, Shape

VIEWS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"})
"""Operators whose output is the same memory as their input."""


@dataclass(frozen=True)
class Peak:
    """The most activation bytes alive at once (inputs and outputs of the running node included), and at which node."""

    activation_bytes: int
    node: str


def peak_activations(graph: Graph, shapes: Mapping[str, Shape], itemsize: int = 4) -> Peak:
    """Walk the nodes in order; graph outputs stay alive to the end."""
    owner: dict[str, str] = {value.name: value.name for value in graph.inputs}
    for node in graph:
        source = owner.get(node.inputs[0]) if node.op in VIEWS and node.inputs else None
        owner.update({name: source or name for name in node.outputs})
    end = len(graph.nodes)
    last: dict[str, int] = {owner[value.name]: end for value in graph.outputs if value.name in owner}
    for index, node in enumerate(graph):
        for name in (*node.inputs, *node.outputs):
            if name in owner:
                last[owner[name]] = max(last.get(owner[name], 0), index)
    sizes = {name: itemsize * count(shapes[name]) for name in set(owner.values())}
    alive = {owner[value.name] for value in graph.inputs}
    best = Peak(sum(sizes[name] for name in alive), "")
    for index, node in enumerate(graph):
        alive |= {owner[name] for name in node.outputs}
        total = sum(sizes[name] for name in alive)
        if total > best.activation_bytes:
            best = Peak(total, node.name)
        alive = {name for name in alive if last.get(name, -1) > index}
    return best


def count(shape: Shape) -> int:
    total = 1
    for n in shape:
        total *= n
    return total
