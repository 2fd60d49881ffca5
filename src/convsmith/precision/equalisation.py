"""Cross-layer equalisation: channels between two layers scaled so that the weights of both need the same range for each.

A ReLU of ``s x`` is ``s`` times the ReLU of ``x`` for s > 0, so a channel may be divided by s in one layer and multiplied by it in the
next.

References: Nagel et al. 2019, Data-free quantization through weight equalization and bias correction, arXiv 1906.04721, section 4.1.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from convsmith.graph import Graph, Node, prune, reads, with_weights

if TYPE_CHECKING:
    from convsmith.precision.calibration import Ranges

Array = np.ndarray[Any, Any]

SCALING: Final = frozenset({"Relu", "LeakyRelu", "PRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "Identity", "Dropout"})
"""Operators that a positive factor of a channel goes through."""

REACHED: Final = 1e-3
"""Share of activations at a limit from which on it belongs to the function."""

SWEEPS: Final = 50
"""Most passes over all pairs; the factors have settled long before in the networks tried."""

SETTLED: Final = 1e-4
"""The largest change of a factor, relative to 1, with which the passes end."""


@dataclass(frozen=True)
class Pair:
    """A layer, and the one that alone reads what becomes of its output, channel by channel."""

    first: Node
    second: Node


def without_limits(graph: Graph, kept: Collection[str] = ()) -> Graph:
    """Return the graph with ReLUs in place of clips from 0 on that lie between two layers, which no scaling goes through, but of ``kept``.

    This changes the function where an activation passes the limit; Nagel et al. do it to every ReLU6 before they equalise. The given
    MobileNetV2, whose limits are reached, loses 20 points by that: see `reached`.
    """
    changed = {
        node.name: Node(node.name, "Relu", node.inputs[:1], node.outputs)
        for node in graph
        if node.name not in kept and _limits(graph, node)[0] == 0.0
    }
    return prune(replace(graph, nodes=tuple(changed.get(node.name, node) for node in graph))) if changed else graph


def reached(graph: Graph, ranges: Ranges) -> frozenset[str]:
    """Return the clips whose upper limit more than ``REACHED`` of the activations seen come up to."""
    found = set()
    for node in graph:
        high = _limits(graph, node)[1]
        seen = ranges.tensors.get(node.outputs[0])
        if high is not None and seen is not None and seen.sample.size and (seen.sample >= high).mean() > REACHED:
            found.add(node.name)
    return frozenset(found)


def _limits(graph: Graph, node: Node) -> tuple[float | None, float | None]:
    """Return the constant limits of a clip, None for what is none."""
    given = [graph.weights.get(name) if name else None for name in (*node.inputs[1:3], "", "")[:2]] if node.op == "Clip" else [None, None]
    low, high = (None if limit is None else float(limit) for limit in given)
    return low, high


def pairs(graph: Graph) -> tuple[Pair, ...]:
    """Return the pairs of layers, batch norm folded, between which channels can be scaled, in the order of the graph."""
    outputs = {value.name for value in graph.outputs}
    found = []
    for first in graph:
        if first.op != "Conv" or not _own(graph, first):
            continue
        value, second = first.outputs[0], None
        while value not in outputs and len(readers := reads(graph, value)) == 1:
            node = readers[0]
            if node.op == "Conv" and node.inputs[0] == value and _own(graph, node):
                second = node
            if node.op not in SCALING or node.inputs[0] != value:
                break
            value = node.outputs[0]
        if second is not None and second.attributes.get("group", 1) in (1, len(graph.weights[second.inputs[1]])):
            found.append(Pair(first, second))
    return tuple(found)


def equalise(graph: Graph) -> Graph:
    """Return the graph, batch norm folded, with both layers of each pair at the geometric mean of their ranges, channel by channel.

    The function is the same but for the rounding of float32. Channels that either layer leaves at zero keep their weights.
    """
    return equalise_by(graph)[0]


def equalise_by(graph: Graph) -> tuple[Graph, dict[str, Array]]:
    """Return the graph of `equalise`, and by layer what each channel of its output was divided by."""
    found = pairs(graph)
    weights = {name: graph.weights[name].astype(np.float64) for pair in found for name in _names(pair)}
    factors = {pair.first.name: np.ones(len(weights[pair.first.inputs[1]])) for pair in found}
    for _ in range(SWEEPS):
        change = 0.0
        for pair in found:
            factor = _settle(pair, weights)
            factors[pair.first.name] *= factor
            change = max(change, float(np.abs(factor - 1).max(initial=0.0)))
        if change < SETTLED:
            break
    return with_weights(graph, {name: array.astype(graph.weights[name].dtype) for name, array in weights.items()}), factors


def _settle(pair: Pair, weights: dict[str, Array]) -> Array:
    """Scale the channels of one pair in place; return what those of the first layer's output were divided by."""
    w, follower = weights[pair.first.inputs[1]], weights[pair.second.inputs[1]]
    depthwise = follower.shape[1] == 1 and pair.second.attributes.get("group", 1) != 1
    second = follower if depthwise else follower.swapaxes(0, 1)  # views: by input channel
    own, other = (np.abs(side.reshape(len(side), -1)).max(axis=1) for side in (w, second))
    usable = (own > 0) & (other > 0)
    # a channel's range becomes sqrt(own * other) in both layers
    factor = np.where(usable, np.sqrt(np.where(usable, own, 1) / np.where(usable, other, 1)), 1.0)
    w /= factor.reshape([-1] + [1] * (w.ndim - 1))
    second *= factor.reshape([-1] + [1] * (second.ndim - 1))
    if _has_bias(pair.first):
        weights[pair.first.inputs[2]] /= factor
    return factor


def _names(pair: Pair) -> tuple[str, ...]:
    return (*(name for name in pair.first.inputs[1:] if name), pair.second.inputs[1])


def _has_bias(node: Node) -> bool:
    return len(node.inputs) > 2 and bool(node.inputs[2])


def _own(graph: Graph, node: Node) -> bool:
    """Tell whether a layer has constant weights that no other reads."""
    weights: Mapping[str, Array] = graph.weights
    return all(name in weights and len(reads(graph, name)) == 1 for name in node.inputs[1:] if name)
