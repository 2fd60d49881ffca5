"""Padding by zeros becomes part of the convolution that alone reads it."""

from __future__ import annotations

import dataclasses

import numpy as np

from convsmith.graph import Graph, Node, reads, remove_node


def fuse_padding(graph: Graph) -> Graph:
    """Add the rows and columns of zeros before a convolution to its own padding."""
    for pad in graph:
        amounts = constant_padding(graph, pad, 0.0) if pad.op == "Pad" else None
        readers = reads(graph, pad.outputs[0])
        if amounts is None or len(readers) != 1 or pad.outputs[0] in {value.name for value in graph.outputs}:
            continue
        layer = readers[0]
        plain = layer.op == "Conv" and layer.inputs[0] == pad.outputs[0] and layer.attributes.get("auto_pad", "NOTSET") == "NOTSET"
        if not plain or pad.outputs[0] in layer.inputs[1:]:
            continue
        pads = layer.attributes.get("pads", (0, 0, 0, 0))
        together = tuple(int(a) + int(b) for a, b in zip(pads, amounts, strict=True))  # type: ignore[arg-type, call-overload]
        changed = dataclasses.replace(layer, attributes={**layer.attributes, "pads": together})
        nodes = tuple(changed if node.name == layer.name else node for node in graph)
        graph = remove_node(dataclasses.replace(graph, nodes=nodes), pad.name)
    return graph


def constant_padding(graph: Graph, pad: Node, number: float) -> tuple[int, ...] | None:
    """Return top, left, bottom and right of a padding of images by a number; None for any other."""
    given = dict(zip(("amounts", "value", "axes"), (*pad.inputs[1:], "", "", ""), strict=False))
    if pad.attributes.get("mode", "constant") != "constant" or any(name and name not in graph.weights for name in given.values()):
        return None
    amounts = graph.weights[given["amounts"]].reshape(2, -1)
    axes = graph.weights[given["axes"]].reshape(-1) if given["axes"] else np.arange(amounts.shape[1])
    value = graph.weights[given["value"]] if given["value"] else np.zeros(())
    if not np.all(value == number):
        return None
    whole = np.zeros((2, 4), np.int64)
    if len(axes) > 4 or any(not -4 <= int(axis) < 4 for axis in axes):
        return None
    for position, axis in enumerate(axes):
        whole[:, int(axis)] = amounts[:, position]
    if whole[:, :2].any() or (whole < 0).any():
        return None
    return int(whole[0, 2]), int(whole[0, 3]), int(whole[1, 2]), int(whole[1, 3])
