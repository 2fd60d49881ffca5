"""Batch normalisation after a linear layer becomes part of its weights.

``y = gamma (W x + b - mean) / sqrt(variance + epsilon) + beta`` is again linear in x.

Cost: no multiplications, two numbers fewer to read for each value and four fewer parameters for each channel.
References: Jacob et al. 2018, arXiv:1712.05877, section 3.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from convsmith.errors import UnsupportedError
from convsmith.graph import Graph, Node, reads, remove_node, replace_node
from convsmith.redesign.edit import Edit

Array = np.ndarray[Any, Any]

OUTPUT_AXIS = {"Conv": 0, "ConvTranspose": 1, "Gemm": 1}
"""The axis of the weights that runs over output channels; ``Gemm``: when not transposed."""


def fold_batch_norm(graph: Graph) -> Graph:
    """Fold every batch normalisation that alone reads a convolution or linear layer with constant weights.

    The new weights are computed in float64 and rounded once to the old type. A normalisation elsewhere (before a
    convolution, after an addition) stays: with zero padding it is not the same function. Shared weights are copied.
    """
    for norm in graph:
        layer = producer(graph, norm) if norm.op == "BatchNormalization" else None
        if layer is not None:
            graph = fold_one(graph, layer, norm)
    return graph


def apply(graph: Graph, edit: Edit) -> Graph:
    """Fold the normalisation ``node``; without a node all that can be folded."""
    if not edit.node:
        return fold_batch_norm(graph)
    norm = graph.node(edit.node)
    layer = producer(graph, norm) if norm.op == "BatchNormalization" else None
    if layer is None:
        raise UnsupportedError(f"node {edit.node!r} ({norm.op}) is no normalisation that alone reads a layer with constant weights")
    return fold_one(graph, layer, norm)


def propose(graph: Graph) -> list[Edit]:
    """Propose to fold all, where something can be folded."""
    folds = any(node.op == "BatchNormalization" and producer(graph, node) is not None for node in graph)
    return [Edit("fold")] if folds else []


def producer(graph: Graph, norm: Node) -> Node | None:
    """Return the foldable layer before a normalisation, or None."""
    source = norm.inputs[0]
    layer = next((node for node in graph if source in node.outputs), None)
    if layer is None or layer.op not in OUTPUT_AXIS:
        return None
    constant = all(name in graph.weights for name in (*filter(None, layer.inputs[1:]), *norm.inputs[1:]))
    alone = len(reads(graph, source)) == 1 and source not in {value.name for value in graph.outputs}
    plain = layer.attributes.get("alpha", 1) == 1 and layer.attributes.get("beta", 1) == 1
    grouped_transpose = layer.op == "ConvTranspose" and layer.attributes.get("group", 1) != 1
    return layer if constant and alone and plain and not grouped_transpose else None


def fold_one(graph: Graph, layer: Node, norm: Node) -> Graph:
    """Return the graph with the layer's weights scaled and shifted, and without the normalisation."""
    old = graph.weights[layer.inputs[1]]
    bias = graph.weights[layer.inputs[2]] if len(layer.inputs) > 2 and layer.inputs[2] else None
    scale, shift = scale_and_shift(graph.weights, norm)
    axis = 0 if layer.op == "Gemm" and layer.attributes.get("transB", 0) else OUTPUT_AXIS[layer.op]
    along = [1] * old.ndim
    along[axis] = -1
    weight = (old.astype(np.float64) * scale.reshape(along)).astype(old.dtype)
    moved = (shift if bias is None else bias.astype(np.float64) * scale + shift).astype(old.dtype)
    weight_name = own_name(graph, layer.inputs[1])
    bias_name = own_name(graph, layer.inputs[2]) if bias is not None else own_name(graph, f"{layer.name}.bias")
    folded = Node(layer.name, layer.op, (layer.inputs[0], weight_name, bias_name), layer.outputs, layer.attributes)
    return remove_node(replace_node(graph, layer.name, (folded,), {weight_name: weight, bias_name: moved}), norm.name)


def scale_and_shift(weights: Mapping[str, Array], norm: Node) -> tuple[Array, Array]:
    """Return float64 ``scale, shift`` per channel such that the normalisation is ``x * scale + shift``."""
    gamma, beta, mean, variance = (weights[name].astype(np.float64) for name in norm.inputs[1:5])
    epsilon = float(norm.attributes.get("epsilon", 1e-5))  # type: ignore[arg-type]
    scale = gamma / np.sqrt(variance + epsilon)
    return scale, beta - mean * scale


def own_name(graph: Graph, name: str) -> str:
    """Return the weight's name, or a new one when other readers need the old numbers."""
    taken = {value.name for value in graph.inputs} | {output for node in graph for output in node.outputs}
    if len(reads(graph, name)) <= 1 and name not in taken:
        return name
    candidate, number = f"{name}.folded", 0
    while candidate in taken or candidate in graph.weights:
        number += 1
        candidate = f"{name}.folded_{number}"
    return candidate
