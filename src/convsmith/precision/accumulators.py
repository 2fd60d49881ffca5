"""How wide a sum of products must be: exact for integers, from the weights; by retained variance for floats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from glob import escape
from typing import Final

import numpy as np
from numpy.typing import NDArray

from convsmith import formats
from convsmith.formats import Format
from convsmith.graph.network import Graph, Node
from convsmith.precision.affine_range import affine_range, step_size
from convsmith.precision.assignment import Assignment, accumulators, resolve, tensors
from convsmith.precision.calibration import Ranges
from convsmith.precision.plan import Plan
from convsmith.precision.rule import Rule
from convsmith.precision.variance_retention import significand_bits
from convsmith.precision.workload import stored_behind

EXPONENT_BITS: Final = 8
"""Exponent bits of a float accumulator: the range of float32, so that only its significand is in question."""


@dataclass(frozen=True)
class IntegerSums:
    """A layer whose weights and input are scaled integers.

    ``steps``: the step of each output channel's weights. ``levels``: the weights as multiples of it. ``low``, ``high``: the least and
    largest multiple of ``input_step`` that the input takes.
    """

    layer: str
    levels: NDArray[np.int64]
    steps: NDArray[np.float32]
    input_step: np.float32
    low: int
    high: int

    @property
    def bits(self) -> int:
        """The width of a two's complement accumulator that no input can overflow, in any order of the additions.

        Exact: the largest partial sum takes all terms at their largest, the least all at their least; zero is among the inputs.
        """
        ends = np.stack([self.levels * self.low, self.levels * self.high]).reshape(2, len(self.levels), -1)
        most = int(ends.max(0).clip(min=0).sum(1).max(initial=0))
        least = int(ends.min(0).clip(max=0).sum(1).min(initial=0))
        return max(most.bit_length(), (-least - 1).bit_length() if least else 0) + 1


def integer_sums(graph: Graph, assignments: Sequence[Assignment], ranges: Ranges | None) -> dict[str, IntegerSums]:
    """Return the layers of a graph, weights not yet rounded, whose products are of scaled integers under these assignments."""
    decided = {(a.role, a.tensor): a for a in assignments if a.rule is not None and a.rule.format is not None}
    behind = stored_behind(graph, {a.tensor for a in tensors(graph) if a.role == "activation"})
    found = {}
    for assigned in accumulators(graph):
        node = graph.node(assigned.layer)
        weight, source = operands(node, graph)
        w, x = decided.get(("weight", weight)), decided.get(("activation", behind.get(source, "")))
        if w is None or x is None or not (_scaled(w.rule) and _scaled(x.rule)) or ranges is None:
            continue
        assert w.rule is not None and x.rule is not None and w.rule.format is not None and x.rule.format is not None
        seen = ranges[x.tensor]
        low, high = (seen.low, seen.high) if x.rule.range == "max" else seen.inner(x.rule.percentile)
        input_step, least, most = affine_range(low, high, x.rule.format)
        levels, steps = _levels(graph.weights[weight], w, w.rule)
        found[node.name] = IntegerSums(node.name, levels, steps, input_step, least, most)
    return found


def operands(node: Node, graph: Graph) -> tuple[str, str]:
    """Return the names of the weight and of the input of a layer that multiplies them."""
    first, second = node.inputs[:2]
    return (second, first) if second in graph.weights else (first, second)


def with_accumulators(graph: Graph, plan: Plan, ranges: Ranges | None, extra: int = 0) -> tuple[Plan, dict[str, int]]:
    """Return the plan with an accumulator rule for each layer that has formats, and the bits of each.

    Integers get the width that no input can overflow. Other formats get floats of float32's range whose significand keeps the variance
    of the sums (``variance_retention``), ``extra`` bits wider; fused products.
    """
    assignments = resolve(plan, graph)
    whole = integer_sums(graph, assignments, ranges)
    formed = {a.layer: a.rule.format for a in assignments if a.role == "weight" and a.rule is not None and a.rule.format is not None}
    rules: list[Rule] = []
    for assigned in accumulators(graph):
        layer = assigned.layer
        if layer in whole:
            rules.append(Rule(escape(layer), "accumulator", Format.integer(whole[layer].bits), "operation", overflow="wrap"))
        elif layer in formed and formed[layer].kind != "integer":
            weight, _ = operands(graph.node(layer), graph)
            array = graph.weights[weight]
            terms = array.size // max(1, array.shape[0] if graph.node(layer).op != "MatMul" else array.shape[-1])
            bits = min(23, significand_bits(terms) + extra)
            rules.append(Rule(escape(layer), "accumulator", Format.float(EXPONENT_BITS, bits), "operation", product=None))
    widths = {a.layer: r.format.bits for a, r in zip(_of(graph, rules), rules, strict=True) if r.format is not None}
    return Plan((*plan.rules, *rules), plan.name, plan.exempt), widths


def _of(graph: Graph, rules: Sequence[Rule]) -> list[Assignment]:
    wanted = {rule.layer for rule in rules}
    return [assigned for assigned in accumulators(graph) if escape(assigned.layer) in wanted]


def _scaled(rule: Rule | None) -> bool:
    return rule is not None and rule.format is not None and rule.format.kind == "integer" and rule.scale != "none"


def _levels(w: NDArray[np.float32], assigned: Assignment, rule: Rule) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the weights as whole multiples of their steps, the output channels first."""
    assert rule.format is not None and assigned.axis is not None
    first = np.moveaxis(w, assigned.axis, 0)
    size = np.abs(first.reshape(len(first), -1))
    if rule.scale == "tensor":
        size = size.reshape(1, -1)
    largest = np.percentile(size, rule.percentile, axis=1) if rule.range == "percentile" else size.max(1)
    steps = step_size(largest, formats.max_value(rule.format))
    axis = assigned.axis if rule.scale == "channel" else None
    scale = steps.reshape(()) if axis is None else steps
    rounded = formats.round_array(np.ascontiguousarray(w), rule.format, rule.rounding, rule.overflow, scale=scale, axis=axis)
    moved = np.moveaxis(rounded, assigned.axis, 0)
    shaped = steps.reshape(-1, *(1,) * (w.ndim - 1))
    return np.rint(moved / shaped).astype(np.int64), np.broadcast_to(steps, (len(first),)).astype(np.float32)
