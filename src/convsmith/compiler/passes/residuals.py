"""An addition of two values of one shape becomes part of the convolution that makes one of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from convsmith.graph import Graph, Node, Shape, reads


def fuse_residuals(graph: Graph, shapes: Mapping[str, Shape]) -> Graph:
    """Fuse an addition into its later operand when that is a convolution which nothing else reads.

    The convolution then runs where the addition was, when the other operand is there.
    """
    for addition in graph:
        layer = adding_layer(graph, addition, shapes) if addition.op == "Add" else None
        if layer is None:
            continue
        other = addition.inputs[1] if addition.inputs[0] == layer.outputs[0] else addition.inputs[0]
        bias = layer.inputs[2] if len(layer.inputs) > 2 else ""
        fused = Node(layer.name, "FusedConv", (*layer.inputs[:2], bias, other), addition.outputs, layer.attributes)
        nodes = tuple(fused if node.name == addition.name else node for node in graph if node.name != layer.name)
        graph = dataclasses.replace(graph, nodes=nodes)
    return graph


def adding_layer(graph: Graph, addition: Node, shapes: Mapping[str, Shape]) -> Node | None:
    a, b = addition.inputs
    outputs = {value.name for value in graph.outputs}
    same = a != b and len(shapes[a]) == 4 and shapes[a] == shapes[b] and a not in graph.weights and b not in graph.weights
    found = None
    for node in graph if same else ():
        source = node.outputs[0]
        if node.op == "Conv" and source in (a, b) and source not in outputs and len(reads(graph, source)) == 1:
            found = node
    return found
