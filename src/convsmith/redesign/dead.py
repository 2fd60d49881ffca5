"""What computes nothing goes: layers that do nothing, and channels that are always zero or that nothing reads.

A channel whose weights are all zero is a constant; when it is zero wherever a layer reads it, that layer's weights for it do not matter.
A channel for which all reading weights are zero does not matter either. Exact: the outputs stay the same, up to the order of sums.

Cost: that of pruning the same channels.
References: Liu et al. 2017, arXiv:1708.06519, section 3 (channels that sparse training has switched off).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from convsmith.graph import Graph, Node, prune, remove_node
from convsmith.redesign.channels import Channels, trace
from convsmith.redesign.edit import Edit
from convsmith.redesign.fold import scale_and_shift
from convsmith.redesign.removal import without

Array = np.ndarray[Any, Any]


def apply(graph: Graph, edit: Edit) -> Graph:
    """Remove what is dead, as often as something is."""
    graph = without_idle(prune(graph))
    while True:
        channels = trace(graph)
        gone = dead_units(graph, channels)
        if not gone:
            return graph
        graph = without(graph, channels, gone)


def propose(graph: Graph) -> list[Edit]:
    """Propose it when there is something dead."""
    idle = len(without_idle(prune(graph)).nodes) != len(graph.nodes)
    return [Edit("dead")] if idle or dead_units(graph, trace(graph)) else []


def without_idle(graph: Graph) -> Graph:
    """Return the graph without nodes that give what they are given."""
    for node in graph:
        made = any(node.inputs[0] in other.outputs for other in graph) if node.inputs else False
        if node.op in ("Identity", "Dropout") and len(node.outputs) == 1 and made:
            graph = remove_node(graph, node.name)
    return graph


def dead_units(graph: Graph, channels: Channels) -> set[int]:
    """Return the units that may go without changing an output; of a layer at least one channel stays."""
    constants = constant_channels(graph, channels)
    read: dict[int, list[bool]] = {}
    for name, value, units in channels.reads:
        node = graph.node(name)
        weight = graph.weights[node.inputs[1]]
        axis = 1 if node.op == "Conv" or node.attributes.get("transB", 0) else 0
        silent = ~np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1).any(axis=1)
        zero = constants[value] == 0 if value in constants else np.zeros(len(units.ids), bool)
        for root, idle in zip(channels.roots(units.ids), silent | zero, strict=True):
            read.setdefault(int(root), []).append(bool(idle))
    dead = {root for root, idle in read.items() if all(idle)} - channels.frozen
    for ids in (*channels.outputs.values(), *(units.ids for _, _, units in channels.reads)):
        roots = {int(root) for root in channels.roots(ids)}
        if roots <= dead:
            dead.discard(min(roots))
    return dead


def constant_channels(graph: Graph, channels: Channels) -> dict[str, Array]:
    """Return, for each value, the number that each channel always has; NaN where it varies."""
    found: dict[str, Array] = {}
    for node in graph:
        if node.outputs[0] not in channels.values:
            continue
        size = len(channels.values[node.outputs[0]].ids)
        numbers = constants_of(graph, node, found, size)
        if numbers is not None and not np.isnan(numbers).all():
            found[node.outputs[0]] = numbers
    return found


def constants_of(graph: Graph, node: Node, found: dict[str, Array], size: int) -> Array | None:
    """Return the constants of one node, None where nothing is known."""
    given = found.get(node.inputs[0]) if node.inputs else None
    if node.op in ("Conv", "Gemm") and node.inputs[1] in graph.weights:
        weight = graph.weights[node.inputs[1]]
        weight = weight.T if node.op == "Gemm" and not node.attributes.get("transB", 0) else weight
        bias = graph.weights.get(node.inputs[2]) if len(node.inputs) > 2 else np.zeros(weight.shape[0])
        if bias is None or bias.shape != (weight.shape[0],):
            return None
        return np.where(weight.reshape(len(weight), -1).any(axis=1), np.nan, bias.astype(np.float64))
    if node.op == "BatchNormalization" and all(name in graph.weights for name in node.inputs[1:]):
        scale, shift = scale_and_shift(graph.weights, node)
        return np.where(scale == 0, shift, np.nan if given is None else given * scale + shift)
    if given is None or given.shape != (size,):
        return None
    if node.op == "Relu":
        return np.asarray(np.maximum(given, 0))
    if node.op in ("MaxPool", "GlobalAveragePool", "GlobalMaxPool", "Identity", "Dropout"):
        return given
    if node.op == "Add" and node.inputs[1] in found and found[node.inputs[1]].shape == given.shape:
        return np.asarray(given + found[node.inputs[1]])
    return None
