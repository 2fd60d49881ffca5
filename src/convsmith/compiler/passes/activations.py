"""An activation becomes part of the convolution or matrix product before it."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from convsmith.compiler.passes.swish import is_sixth
from convsmith.graph import Graph, Node, reads

NAMES = {"Relu": "relu", "Silu": "silu", "HardSwish": "hard_swish", "Sigmoid": "sigmoid", "HardSigmoid": "hard_sigmoid", "Clip": "clip"}
"""Operators and what the convolutions call them (``kernels.native.ACTIVATIONS``)."""

LAYERS = {"Conv": "FusedConv", "FusedConv": "FusedConv", "Gemm": "FusedGemm"}


def fuse_activations(graph: Graph) -> Graph:
    """Fuse an activation that alone reads a layer; of several in a row only the first."""
    for node in graph:
        given = activation(graph, node)
        layer = next((other for other in graph if node.inputs[0] in other.outputs), None) if given else None
        if layer is None or given is None or layer.op not in LAYERS or "activation" in layer.attributes or not alone(graph, layer):
            continue
        fused = Node(layer.name, LAYERS[layer.op], layer.inputs, node.outputs, {**layer.attributes, **given})
        nodes = tuple(fused if other.name == layer.name else other for other in graph if other.name != node.name)
        graph = dataclasses.replace(graph, nodes=nodes)
    return graph


def activation(graph: Graph, node: Node) -> dict[str, Any] | None:
    """Return the attributes that say what a node does to each number, or None when layers cannot do it."""
    if node.op not in NAMES or (node.op == "HardSigmoid" and not is_sixth(node)):
        return None
    if node.op != "Clip":
        return {"activation": NAMES[node.op]}
    limits = (*node.inputs[1:], "", "")
    if any(name and name not in graph.weights for name in limits):
        return None
    low, high = (
        float(graph.weights[name].reshape(-1)[0]) if name else default for name, default in zip(limits, (-math.inf, math.inf), strict=False)
    )
    return {"activation": "clip", "low": low, "high": high}


def alone(graph: Graph, layer: Node) -> bool:
    """Tell whether only one node reads a layer, with constant matrices where it multiplies."""
    output = layer.outputs[0]
    if output in {value.name for value in graph.outputs} or len(reads(graph, output)) != 1:
        return False
    return layer.op != "Gemm" or len(layer.inputs) < 3 or not layer.inputs[2] or graph.weights.get(layer.inputs[2]) is not None
