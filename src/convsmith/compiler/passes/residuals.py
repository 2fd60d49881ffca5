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


def fuse_integer_residuals(graph: Graph, shapes: Mapping[str, Shape]) -> Graph:
    """Fuse an addition of codes into the later convolution that alone it reads; the convolution still rounds its own result first."""
    for addition in graph:
        layer = integer_layer(graph, addition, shapes) if addition.op == "IntegerAdd" else None
        if layer is None:
            continue
        mine, other = ("a", "b") if addition.inputs[0] == layer.outputs[0] else ("b", "a")
        given, before = addition.attributes, layer.attributes
        attributes = {
            **before,
            "residual_zero": given[f"{other}_zero"],
            "residual_factor": given[f"{other}_factor"],
            "middle_factor": given[f"{mine}_factor"],
            "middle_low": int(before["low"]) - int(before["zero"]),  # type: ignore[arg-type]
            "middle_high": int(before["high"]) - int(before["zero"]),  # type: ignore[arg-type]
            **{key: given[key] for key in ("zero", "low", "high")},
        }
        residual = addition.inputs[1 if mine == "a" else 0]
        fused = Node(layer.name, "IntegerConv", (*layer.inputs[:4], residual), addition.outputs, attributes)
        nodes = tuple(fused if node.name == addition.name else node for node in graph if node.name != layer.name)
        graph = dataclasses.replace(graph, nodes=nodes)
    return graph


def integer_layer(graph: Graph, addition: Node, shapes: Mapping[str, Shape]) -> Node | None:
    """Return the later convolution of codes that only an addition of values of one shape reads, or None."""
    a, b = addition.inputs
    found = None
    for node in graph if a != b and shapes[a] == shapes[b] and len(shapes[a]) == 4 else ():
        source = node.outputs[0]
        plain = node.op == "IntegerConv" and node.attributes["result"] == "codes" and len(node.inputs) == 4
        if plain and source in (a, b) and len(reads(graph, source)) == 1:
            found = node
    return found
