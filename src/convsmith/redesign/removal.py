"""Channels taken out of a graph: weights, groups, paddings and reshapes cut along the units that go."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any

import numpy as np

from convsmith.errors import UnsupportedError, UsageError
from convsmith.graph import Graph, Node
from convsmith.graph.rewrite import drop_unread_weights
from convsmith.redesign.channels import Channels
from convsmith.redesign.layer import Names

Array = np.ndarray[Any, Any]


def without(graph: Graph, channels: Channels, removed: Collection[int]) -> Graph:
    """Return the graph without the channels of these units.

    Raises: ``UnsupportedError`` for frozen units, ``UsageError`` when nothing would be left of a layer.
    """
    gone = {channels.root(unit) for unit in removed}
    if gone & channels.frozen:
        raise UnsupportedError("these channels are tied to the network's input, its output or an operator that cannot be cut")
    keeps = _Keeps(channels, gone)
    weights = dict(graph.weights)
    for name, axes in channels.slices.items():
        array = graph.weights[name]
        for units in axes:
            mask = keeps(units.ids)
            if not mask.any():
                raise UsageError(f"nothing would be left of weight {name!r}")
            array = np.compress(mask, array, axis=units.axis)
        weights[name] = array
    names, nodes = Names(graph), []
    for node in graph:
        changed, more = _node(graph, channels, keeps, names, node)
        nodes.append(changed)
        weights.update(more)
    return drop_unread_weights(dataclasses.replace(graph, nodes=tuple(nodes), weights=weights))


@dataclasses.dataclass
class _Keeps:
    """Tells which places stay."""

    channels: Channels
    gone: set[int]

    def __call__(self, ids: Array) -> Array:
        return ~np.isin(self.channels.roots(ids), list(self.gone))


def _node(graph: Graph, channels: Channels, keeps: _Keeps, names: Names, node: Node) -> tuple[Node, dict[str, Array]]:
    """Return a node with the numbers of channels that it names, and new constants for it."""
    if node.name in channels.groups:
        count = int(keeps(channels.groups[node.name]).sum())
        return dataclasses.replace(node, attributes={**node.attributes, "group": count}), {}
    if node.name in channels.pads:
        return _padding(graph, channels, keeps, names, node)
    if node.name in channels.targets:
        place, ids = channels.targets[node.name]
        target = graph.weights[node.inputs[1]].copy()
        target[place] = int(keeps(ids).sum())
        return _with_constant(graph, names, node, target)
    return node, {}


def _padding(graph: Graph, channels: Channels, keeps: _Keeps, names: Names, node: Node) -> tuple[Node, dict[str, Array]]:
    amounts = graph.weights[node.inputs[1]].copy()
    place, front, back = channels.pads[node.name]
    amounts[place], amounts[len(amounts) // 2 + place] = int(keeps(front).sum()), int(keeps(back).sum())
    return _with_constant(graph, names, node, amounts)


def _with_constant(graph: Graph, names: Names, node: Node, array: Array) -> tuple[Node, dict[str, Array]]:
    """Give a node another second input, under a new name when other nodes read the old one."""
    if np.array_equal(array, graph.weights[node.inputs[1]]):
        return node, {}
    name = names.weight(node.inputs[1])
    return dataclasses.replace(node, inputs=(node.inputs[0], name, *node.inputs[2:])), {name: array}
