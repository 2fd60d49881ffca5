"""Nodes that change nothing are left out."""

from __future__ import annotations

from convsmith.graph import Graph, Node, remove_node


def drop_identities(graph: Graph) -> Graph:
    """Remove identities, dropout, casts to float32, and padding by nothing; one that makes an output from an input stays."""
    float32 = {value.name for value in graph.inputs if value.dtype == "float32"}
    outputs = {value.name for value in graph.outputs}
    fixed = {value.name for value in graph.inputs} | set(graph.weights)
    for node in graph:
        if not is_identity(graph, node, float32):
            continue
        source = next(n for n in graph if n.name == node.name).inputs[0]
        target = node.outputs[0]
        clash = target in outputs and (source in fixed or source in outputs)
        if not clash and node.outputs[1:] == ():
            graph = remove_node(graph, node.name)
    return graph


def is_identity(graph: Graph, node: Node, float32: set[str]) -> bool:
    if node.op in ("Identity", "Dropout"):
        return True
    if node.op == "Cast":
        return node.attributes.get("to") == 1 and node.inputs[0] in float32
    if node.op == "Pad":
        amounts = graph.weights.get(node.inputs[1])
        return amounts is not None and not amounts.any()
    return False
