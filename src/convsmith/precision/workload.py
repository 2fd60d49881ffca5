"""What a network does that costs something: the products of each layer, and the tensors that are stored and read."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from convsmith.analysis.cost import multiply_accumulates
from convsmith.graph import infer_shapes
from convsmith.graph.network import Graph
from convsmith.precision.assignment import MOVES, WEIGHT_INPUTS, tensors
from convsmith.redesign import fold_batch_norm


@dataclass(frozen=True)
class Work:
    """The products of one layer for one image.

    ``weight`` and ``source``: the tensors whose numbers are multiplied; a source is what was stored, before it was only moved.
    ``terms``: products that one sum adds up.
    """

    layer: str
    op: str
    weight: str
    source: str
    macs: int
    terms: int


@dataclass(frozen=True)
class Workload:
    """The work of a network, batch norm folded.

    ``numbers``: how many numbers each weight and each stored activation of one image has. ``reads``: how many operators read an
    activation. ``layers``: the layer that stores an activation; of a weight, all layers that read it.
    """

    works: tuple[Work, ...]
    numbers: dict[str, int] = field(default_factory=dict)
    reads: dict[str, int] = field(default_factory=dict)
    layers: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def macs(self) -> int:
        return sum(work.macs for work in self.works)


def workload(graph: Graph) -> Workload:
    """Return what the network does for one image."""
    folded = fold_batch_norm(graph)
    shapes = infer_shapes(folded, 1)
    found = tensors(folded)
    stored = {tensor.tensor for tensor in found if tensor.role == "activation"}
    behind = stored_behind(folded, stored)
    reads = dict.fromkeys(stored, 0)
    works = []
    for node in folded:
        for source in dict.fromkeys(behind.get(name, "") for name in node.inputs):
            if source and node.op not in MOVES:
                reads[source] += 1
        roles = WEIGHT_INPUTS.get(node.op, {})
        places = [place for place, role in roles.items() if role == "weight" and place < len(node.inputs)]
        weight = next((node.inputs[place] for place in places if node.inputs[place] in folded.weights), "")
        macs = multiply_accumulates(node, shapes)
        if macs:
            source = next((behind[name] for name in node.inputs if behind.get(name)), "")
            outputs = math.prod(shapes[node.outputs[0]])
            works.append(Work(node.name, node.op, weight, source, macs, max(1, macs // outputs)))
    layers: dict[str, tuple[str, ...]] = {}
    for tensor in found:
        layers[tensor.tensor] = (*layers.get(tensor.tensor, ()), tensor.layer)
    return Workload(tuple(works), {name: math.prod(shapes[name]) for name in layers}, reads, layers)


def stored_behind(graph: Graph, stored: set[str]) -> dict[str, str]:
    """Map each value to the stored tensor whose numbers it has: itself, or what an operator that only moves values read."""
    behind = {name: name for name in stored}
    for node in graph:
        for output in node.outputs:
            if output not in behind:
                behind[output] = behind.get(node.inputs[0], "") if node.op in MOVES and node.inputs else ""
    return behind
