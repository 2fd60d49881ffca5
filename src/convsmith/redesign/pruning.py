"""Whole channels go: those of one layer, with everything that is tied to them.

An edit names channels that a layer makes; where they are added to others (residual blocks), normalised, padded, concatenated or flattened,
the dependency analysis of ``channels`` takes the same ones out of every layer that makes or reads them. What is left is a smaller dense
network. Exact only for channels that are zero, which ``dead`` finds.

Cost: with ``in`` and ``out`` falling to ``in'`` and ``out'``, ``N M in' out' H W`` multiplications in every layer that makes or reads them.
References: Li et al. 2017, arXiv:1608.08710; Liu et al. 2017, arXiv:1708.06519; Molchanov et al. 2019, arXiv:1906.10771; Fang et al. 2023,
arXiv:2301.12900.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from convsmith.errors import UnsupportedError, UsageError
from convsmith.graph import Graph
from convsmith.redesign.channels import Channels, trace
from convsmith.redesign.edit import Edit
from convsmith.redesign.importance import Criterion, importance
from convsmith.redesign.removal import without

Array = np.ndarray[Any, Any]

SHARES: Final = (0.125, 0.25, 0.375, 0.5)
"""Parts of the channels that proposals take out."""


def apply(graph: Graph, edit: Edit) -> Graph:
    """Remove the output ``channels`` of a layer, given as numbers, and what is tied to them."""
    graph.node(edit.node)
    channels = trace(graph)
    if edit.node not in channels.outputs:
        raise UnsupportedError(f"node {edit.node!r} makes no channels that can be removed; a dense layer or an ungrouped convolution does")
    numbers = edit.settings.get("channels", ())
    units = channels.outputs[edit.node]
    if not isinstance(numbers, tuple) or not numbers or not all(0 <= number < len(units) for number in numbers):
        raise UsageError(f"edit 'prune' of node {edit.node!r} needs channels between 0 and {len(units) - 1}; got {numbers!r}")
    try:
        return without(graph, channels, [int(units[number]) for number in numbers])
    except (UsageError, UnsupportedError) as error:
        raise type(error)(f"edit 'prune' of node {edit.node!r}: {error}") from None


def propose(graph: Graph, criterion: Criterion = "l1", gradients: Mapping[str, Array] | None = None) -> list[Edit]:
    """Propose to take the least important eighth, quarter, three eighths and half of each group of tied layers, in whole vectors of 8."""
    channels = trace(graph)
    worth = importance(graph, channels, criterion, gradients)
    edits = []
    for name, free in groups(channels).items():
        units = channels.roots(channels.outputs[name])
        order = [
            number for number in np.argsort([worth.get(int(unit), 0.0) for unit in units], kind="stable") if int(units[number]) in free
        ]
        unit = 8 if len(units) > 16 else 4 if len(units) > 8 else 1
        counts = {unit * round(share * len(units) / unit) for share in SHARES}
        for count in sorted(count for count in counts if 0 < count <= len(order) and count < len(units)):
            edits.append(Edit("prune", name, {"channels": tuple(sorted(int(number) for number in order[:count]))}))
    return edits


def groups(channels: Channels) -> dict[str, set[int]]:
    """Return, for the first layer of each group of tied layers, the units it makes that may go."""
    frozen, seen, found = channels.frozen, set[frozenset[int]](), dict[str, set[int]]()
    for name, ids in channels.outputs.items():
        roots = frozenset(int(root) for root in channels.roots(ids))
        free = set(roots) - frozen
        if name not in channels.groups and free and roots not in seen:
            seen.add(roots)
            found[name] = free
    return found
