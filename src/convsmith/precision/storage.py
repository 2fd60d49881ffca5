"""How many bytes the weights take at a plan's bits."""

from __future__ import annotations

from typing import Any

from convsmith.graph.network import Graph
from convsmith.precision.assignment import Assignment, resolve
from convsmith.precision.plan import Plan
from convsmith.redesign import fold_batch_norm


def weight_bytes(graph: Graph, plan: Plan | None = None) -> int:
    """Return the bytes of the network's floating-point constants, batch norm folded, each packed at its format's bits.

    Every tensor is rounded up to whole bytes; a scaled one adds 4 bytes for each step size. Without a plan all take 4 bytes a number.
    """
    graph = fold_batch_norm(graph)
    assigned = {a.tensor: a for a in resolve(plan or Plan(), graph) if a.role in ("weight", "bias") and a.rule is not None}
    arrays = {name: array for name, array in graph.weights.items() if array.dtype.kind == "f"}
    return sum(_bytes(array, assigned.get(name)) for name, array in arrays.items())


def _bytes(array: Any, assigned: Assignment | None) -> int:
    rule = assigned.rule if assigned else None
    if assigned is None or rule is None or rule.format is None:
        return int(4 * array.size)
    steps = 0
    if rule.scale != "none":
        steps = array.shape[assigned.axis] if rule.scale == "channel" and assigned.axis is not None and array.ndim > 1 else 1
    return int(-(-array.size * rule.format.bits // 8) + 4 * steps)
