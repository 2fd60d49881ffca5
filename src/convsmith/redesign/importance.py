"""How much each channel is worth: by the size of its weights, its scale in batch norm, or what a training gradient says of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from convsmith.graph import Graph
from convsmith.redesign.channels import Channels

Array = np.ndarray[Any, Any]
Criterion = Literal["l1", "scale", "taylor"]


def importance(
    graph: Graph, channels: Channels, criterion: Criterion = "l1", gradients: Mapping[str, Array] | None = None
) -> dict[int, float]:
    """Return the worth of every unit, by its root.

    ``l1``: the sum of the sizes of all weights cut along the unit, each layer's divided by its mean so that layers compare (Li et al. 2017,
    arXiv:1608.08710; summed over the group as in DepGraph, eq. 5). ``scale``: the size of its scales in batch norm (Liu et al. 2017,
    arXiv:1708.06519), of weights where it has none. ``taylor``: the square of the sum of gradient times weight, what the loss changes
    to first order when the unit goes (Molchanov et al. 2019, arXiv:1906.10771, eq. 8); needs the ``gradients`` of the loss by weight.
    """
    scales = {node.inputs[1] for node in graph if node.op == "BatchNormalization"}
    statistics = {name for node in graph if node.op == "BatchNormalization" for name in node.inputs[2:5]}
    worth: dict[int, float] = {}
    parts: dict[int, float] = {}
    for name, axes in channels.slices.items():
        if name in statistics:
            continue
        for units in axes:
            values = numbers(graph.weights[name], units.axis, criterion, None if gradients is None else gradients.get(name))
            target = worth if criterion != "scale" or name in scales else parts
            for root, value in zip(channels.roots(units.ids), values, strict=True):
                target[int(root)] = target.get(int(root), 0.0) + float(value)
    if criterion == "taylor":
        return {root: value * value for root, value in worth.items()}
    return {**parts, **worth}


def numbers(weight: Array, axis: int, criterion: Criterion, gradient: Array | None) -> Array:
    """Return what the slices of one weight along an axis are worth."""
    others = tuple(other for other in range(weight.ndim) if other != axis)
    if criterion == "taylor":
        return np.zeros(weight.shape[axis]) if gradient is None else (weight.astype(np.float64) * gradient).sum(axis=others)
    sizes = np.abs(weight.astype(np.float64)).sum(axis=others)
    return np.asarray(sizes / max(float(sizes.mean()), 1e-300)) if criterion == "l1" or weight.ndim > 1 else sizes
