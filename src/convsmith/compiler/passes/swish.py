"""``x * sigmoid(x)`` and ``x * hard_sigmoid(x)`` become one operator."""

from __future__ import annotations

import dataclasses

from convsmith.graph import Graph, Node, prune


def recognise_swish(graph: Graph) -> Graph:
    """Replace the product; the gate stays where something else reads it. ``Silu`` is this compiler's own operator."""
    producers = {node.outputs[0]: node for node in graph}
    nodes = tuple(swish(node, producers) or node for node in graph)
    return prune(dataclasses.replace(graph, nodes=nodes))


def swish(node: Node, producers: dict[str, Node]) -> Node | None:
    if node.op != "Mul":
        return None
    for x, gate in (node.inputs, node.inputs[::-1]):
        producer = producers.get(gate)
        if producer is None or producer.inputs[0] != x:
            continue
        if producer.op == "Sigmoid":
            return Node(node.name, "Silu", (x,), node.outputs)
        if producer.op == "HardSigmoid" and is_sixth(producer):
            return Node(node.name, "HardSwish", (x,), node.outputs)
    return None


def is_sixth(node: Node) -> bool:
    """Tell whether a hard sigmoid is ``x / 6 + 0.5``, to float32."""
    alpha, beta = float(node.attributes.get("alpha", 0.2)), float(node.attributes.get("beta", 0.5))  # type: ignore[arg-type]
    return abs(alpha - 1 / 6) < 1e-7 and beta == 0.5
