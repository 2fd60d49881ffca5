"""Counting what each layer of a graph costs: parameters, multiply-accumulates, memory, and what it sees."""

from __future__ import annotations

from collections.abc import Mapping

from convsmith.analysis.cost_report import FLOAT32_BYTES, Layer, Report
from convsmith.analysis.memory import count, peak_activations
from convsmith.analysis.receptive_field import Field, receptive_fields
from convsmith.graph import Graph, Node, Shape, infer_shapes, learned


def analyse(graph: Graph, batch: int = 1) -> Report:
    """Return what every node costs for a batch; constant arithmetic costs nothing.

    Raises: ``UsageError`` or ``UnsupportedError`` naming the node whose shapes cannot be inferred.
    """
    shapes = infer_shapes(graph, batch)
    fields = receptive_fields(graph, shapes)
    owned = learned(graph)
    layers = tuple(layer_cost(graph, node, shapes, fields, owned.get(node.name, ())) for node in graph)
    first = shapes[graph.inputs[0].name] if graph.inputs else ()
    return Report(graph.name, batch, first, layers, peak_activations(graph, shapes, FLOAT32_BYTES))


def layer_cost(graph: Graph, node: Node, shapes: Mapping[str, Shape], fields: Mapping[str, Field | None], owned: tuple[str, ...]) -> Layer:
    output = sum(count(shapes[name]) for name in node.outputs)
    read = sum(count(shapes[name]) for name in dict.fromkeys(node.inputs) if name)
    return Layer(
        name=node.name,
        op=node.op,
        output_shape=shapes[node.outputs[0]],
        parameters=sum(graph.weights[name].size for name in owned),
        macs=multiply_accumulates(node, shapes),
        activation_bytes=FLOAT32_BYTES * output,
        traffic_bytes=FLOAT32_BYTES * (read + output),
        field=fields[node.outputs[0]],
    )


def multiply_accumulates(node: Node, shapes: Mapping[str, Shape]) -> int:
    """Return the products that are summed: outputs times products an output."""
    if node.op == "Conv":
        return count(shapes[node.outputs[0]]) * count(shapes[node.inputs[1]][1:])
    if node.op == "ConvTranspose":
        return count(shapes[node.inputs[0]]) * count(shapes[node.inputs[1]][1:])
    if node.op in ("Gemm", "MatMul"):
        inner = shapes[node.inputs[0]][-2 if node.attributes.get("transA", 0) else -1]
        return count(shapes[node.outputs[0]]) * inner
    return 0
