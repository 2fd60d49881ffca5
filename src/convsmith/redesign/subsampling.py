"""Channels padded with zeros, after taking every second pixel or not, become a 1x1 convolution.

The shortcut without parameters of residual networks on CIFAR (option A) copies numbers from place to place; as a convolution whose weights
are ones and zeros it computes the same, exactly, and an engine adds it up in passing. It also unties the channels of the two stages, so
that each can be pruned alone.

Cost: ``in out H W`` multiplications instead of none, and two passes over memory fewer.
References: He et al. 2016, arXiv:1512.03385, sections 3.3 (options A and B) and 4.2.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from convsmith.errors import UnsupportedError
from convsmith.graph import Graph, Node, Shape, infer_shapes, replace_node
from convsmith.graph.rewrite import prune
from convsmith.redesign.edit import Edit
from convsmith.redesign.layer import Names, producer, sole_reader


def apply(graph: Graph, edit: Edit) -> Graph:
    """Replace a padding of channels, and the subsampling before it; without a node all of them."""
    shapes = infer_shapes(graph)
    if edit.node:
        node = graph.node(edit.node)
        amounts = padded(graph, node, shapes)
        if amounts is None:
            raise UnsupportedError(f"node {edit.node!r} ({node.op}) does not pad channels, and only channels, with zeros")
        return replaced(graph, node, amounts, shapes)
    for node in graph:
        amounts = padded(graph, node, shapes)
        if amounts is not None:
            graph = replaced(graph, node, amounts, shapes)
    return graph


def propose(graph: Graph) -> list[Edit]:
    """Propose to replace all, where there are any."""
    shapes = infer_shapes(graph)
    return [Edit("shortcut")] if any(padded(graph, node, shapes) is not None for node in graph) else []


def padded(graph: Graph, node: Node, shapes: dict[str, Shape]) -> tuple[int, int] | None:
    """Return how many channels of zeros a node adds before and after, None when it is or does anything else."""
    if node.op != "Pad" or len(shapes[node.inputs[0]]) != 4 or node.attributes.get("mode", "constant") != "constant":
        return None
    constants = [graph.weights.get(name) if name else None for name in (*node.inputs[1:], "", "", "")[:3]]
    amounts, value, axes = constants
    if amounts is None or (node.inputs[2:3] != () and node.inputs[2] and (value is None or np.any(value != 0))):
        return None
    places = np.arange(4) if axes is None else axes % 4
    whole = np.zeros((2, 4), np.int64)
    whole[:, places] = amounts.reshape(2, -1)
    if (whole < 0).any() or whole[:, [0, 2, 3]].any() or not whole[:, 1].any():
        return None
    return int(whole[0, 1]), int(whole[1, 1])


def replaced(graph: Graph, node: Node, amounts: tuple[int, int], shapes: dict[str, Shape]) -> Graph:
    source, strides = node.inputs[0], (1, 1)
    before = producer(graph, source)
    if before is not None and sole_reader(graph, source) is not None and is_subsampling(before):
        given: Any = before.attributes.get("strides", (1, 1))
        source, strides = before.inputs[0], given
    channels = shapes[source][1]
    w_kcrs = np.zeros((channels + sum(amounts), channels, 1, 1), np.float32)
    w_kcrs[amounts[0] : amounts[0] + channels, :, 0, 0] = np.eye(channels)
    weight = Names(graph).new(f"{node.name}.weight")
    attributes: dict[str, Any] = {"kernel_shape": (1, 1), "strides": strides, "pads": (0, 0, 0, 0), "dilations": (1, 1), "group": 1}
    return prune(replace_node(graph, node.name, (Node(node.name, "Conv", (source, weight), node.outputs, attributes),), {weight: w_kcrs}))


def is_subsampling(node: Node) -> bool:
    """Tell whether a node takes every n-th pixel: pooling over one pixel."""
    a = node.attributes
    alone = node.op in ("MaxPool", "AveragePool") and a.get("kernel_shape") == (1, 1) and len(node.outputs) == 1
    return alone and not any(a.get("pads", ())) and a.get("auto_pad", "NOTSET") == "NOTSET" and not a.get("ceil_mode", 0)  # type: ignore[arg-type]
