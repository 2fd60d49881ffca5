"""How wide a sum of products must be: exact for integers, from the weights; by retained variance for floats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from glob import escape
from typing import Final

import numpy as np
from numpy.typing import NDArray

from convsmith.formats import Format
from convsmith.graph.network import Graph, Node
from convsmith.precision.affine_range import activation_range, weight_codes, weight_steps
from convsmith.precision.assignment import Assignment, accumulators, resolve, tensors
from convsmith.precision.calibration import Ranges
from convsmith.precision.overflow import bits_for, sum_ends
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
        """The width of a two's complement accumulator that no input can overflow, in any order of the additions."""
        low, high = sum_ends(self.levels.reshape(len(self.levels), -1), self.low, self.high)
        return bits_for(min(low), max(high))


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
        input_step, least, most = activation_range(x, x.rule, ranges)
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
    assert assigned.axis is not None
    codes = np.moveaxis(weight_codes(w, assigned), assigned.axis, 0)
    steps, _ = weight_steps(w, rule, assigned.axis)
    assert steps is not None
    return codes, np.broadcast_to(steps, (len(codes),))
