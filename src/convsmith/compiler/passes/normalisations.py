"""Batch normalisation that no convolution took in becomes a 1x1 convolution of each channel alone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from convsmith.graph import Graph, Node, Shape, replace_node
from convsmith.redesign.fold import scale_and_shift


def normalisations_to_convolutions(graph: Graph, shapes: Mapping[str, Shape]) -> Graph:
    """Replace those of images with constant statistics: one pass over the pixels, into which an activation can be fused."""
    for norm in graph:
        constant = all(name in graph.weights for name in norm.inputs[1:])
        if norm.op != "BatchNormalization" or not constant or len(shapes[norm.inputs[0]]) != 4:
            continue
        scale, shift = scale_and_shift(graph.weights, norm)
        names = f"{norm.name}.scale", f"{norm.name}.shift"
        weights = {names[0]: scale.astype(np.float32).reshape(-1, 1, 1, 1), names[1]: shift.astype(np.float32)}
        node = Node(norm.name, "Conv", (norm.inputs[0], *names), norm.outputs[:1], {"group": len(scale)})
        graph = replace_node(graph, norm.name, (node,), weights)
    return graph
