"""What each layer of a network costs in time, measured once for each kind of layer and remembered.

A *unit* is what an engine computes in one go: a convolution or dense layer with the normalisation, addition and activation behind it, or
any other node. Two units cost the same when operators, shapes and attributes are the same, whatever the weights. Nothing is measured here:
the price list is given a function that times the nodes of a whole network, where each layer runs with the caches its neighbours left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from convsmith.graph import Graph, Node, Shape, infer_shapes, prune
from convsmith.kernels.pointwise import POINTWISE
from convsmith.redesign.dead import without_idle
from convsmith.redesign.fold import fold_batch_norm
from convsmith.redesign.layer import sole_reader

Measure = Callable[[Graph], Mapping[str, float]]
"""Seconds of each node of a graph, by name; a node that is computed within another has none."""

Remember = Callable[[Mapping[str, float]], Any]
"""What is told new prices, seconds by signature."""

LAYERS: Final = frozenset({"Conv", "Gemm", "MatMul", "ConvTranspose"})
ACTIVATIONS: Final = frozenset(POINTWISE) - {"Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Where", "Softmax", "LogSoftmax"}


@dataclass(frozen=True)
class Unit:
    """Nodes that are computed together, and what tells one kind of them from another."""

    nodes: tuple[str, ...]
    signature: str


class PriceList:
    """Returns the seconds of a network as the sum of its units; measures a network only when it has a unit never seen.

    ``batch``: images at once. ``known``: seconds by signature, as ``remember`` was told them before, for the same processor and threads.
    """

    def __init__(
        self, measure: Measure, *, batch: int = 1, known: Mapping[str, float] | None = None, remember: Remember | None = None
    ) -> None:
        self.measure, self.batch, self.remember = measure, batch, remember
        self.known = dict(known or {})
        self.measurements = 0

    def __call__(self, graph: Graph) -> float:
        """Return the seconds of one run, predicted."""
        return sum(self.layers(graph).values())

    def layers(self, graph: Graph) -> dict[str, float]:
        """Return the seconds of each unit, by its first node."""
        plain = simplified(graph)
        found = units(plain, self.batch)
        missing = [unit for unit in found if unit.signature not in self.known]
        if missing:
            self._learn(self.measure(plain), missing)
        return {unit.nodes[0]: self.known[unit.signature] for unit in found}

    def refresh(self, graph: Graph) -> float:
        """Measure a network anew, scale every other price by how much slower or quicker it has become, and return that factor.

        The same machine has slow and quick hours: what was remembered on another day then still compares with what is measured now.
        """
        plain = simplified(graph)
        found = units(plain, self.batch)
        known = [unit for unit in found if unit.signature in self.known]
        old = sum(self.known[unit.signature] for unit in known)
        times = self.measure(plain)
        new = sum(times.get(name, 0.0) for unit in known for name in unit.nodes)
        factor = new / old if old > 0 and new > 0 else 1.0
        self.known = {signature: seconds * factor for signature, seconds in self.known.items()}
        self._learn(times, found)
        return factor

    def _learn(self, times: Mapping[str, float], missing: list[Unit]) -> None:
        self.measurements += 1
        samples: dict[str, list[float]] = {}
        for unit in missing:
            samples.setdefault(unit.signature, []).append(sum(times.get(name, 0.0) for name in unit.nodes))
        new = {signature: median(values) for signature, values in samples.items()}
        self.known.update(new)
        if self.remember is not None:
            self.remember(new)


def simplified(graph: Graph) -> Graph:
    """Return the graph as an engine runs it: batch normalisation folded, nothing that does nothing."""
    return without_idle(prune(fold_batch_norm(graph)))


def units(graph: Graph, batch: int = 1) -> list[Unit]:
    """Return the units of a graph in order; every node belongs to one."""
    shapes = infer_shapes(graph, batch)
    place = {name: number for number, node in enumerate(graph) for name in node.outputs}
    taken: set[str] = set()
    found = []
    for number, node in enumerate(graph):
        if node.name in taken:
            continue
        nodes = [node, *(followers(graph, node, number, place) if node.op in LAYERS else ())]
        taken.update(member.name for member in nodes)
        found.append(Unit(tuple(member.name for member in nodes), signature(graph, nodes, shapes)))
    return found


def followers(graph: Graph, node: Node, number: int, place: Mapping[str, int]) -> list[Node]:
    """Return what is computed with a layer: an addition of something that is there before it, and one activation."""
    found: list[Node] = []
    reader = sole_reader(graph, node.outputs[0])
    if reader is not None and reader.op == "Add":
        other = next((name for name in reader.inputs if name != node.outputs[0]), "")
        if other and place.get(other, -1) < number:
            found.append(reader)
            reader = sole_reader(graph, reader.outputs[0])
    if reader is not None and reader.op in ACTIVATIONS and len(reader.outputs) == 1:
        found.append(reader)
    return found


def signature(graph: Graph, nodes: list[Node], shapes: Mapping[str, Shape]) -> str:
    """Return operators, shapes and attributes as text; names and weights leave no trace."""
    inside = {name: f"#{index}" for index, node in enumerate(nodes) for name in node.outputs}
    parts = []
    for node in nodes:
        operands = [inside[name] if name in inside else "x".join(map(str, shapes[name])) if name else "-" for name in node.inputs]
        kinds = ["w" if name in graph.weights else "" for name in node.inputs]
        attributes = " ".join(f"{key}={value}" for key, value in sorted(node.attributes.items()))
        given = ", ".join(f"{kind}{operand}" for kind, operand in zip(kinds, operands, strict=True))
        parts.append(f"{node.op}({given}) {attributes}".strip())
    return " > ".join(parts)
