"""A graph under a plan as QONNX writes it: Quant and BipolarQuant nodes on float tensors, for integers of any width and fixed point.

References: Pappalardo et al. 2022, QONNX, arXiv 2206.07527; qonnx, ``docs/qonnx-custom-ops``, Quant and BipolarQuant, version 1.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from convsmith import formats
from convsmith.errors import UnsupportedError
from convsmith.graph.network import Graph, Node, Value
from convsmith.precision.affine_range import activation_range, along_axis, weight_steps
from convsmith.precision.assignment import Assignment, resolve
from convsmith.precision.calibration import Ranges
from convsmith.precision.plan import Plan
from convsmith.precision.rule import Rule
from convsmith.redesign import fold_batch_norm

ROUNDING: Final = {"nearest_even": "ROUND", "up": "CEIL", "down": "FLOOR"}


def quant_nodes(graph: Graph, plan: Plan, ranges: Ranges | None = None) -> Graph:
    """Return the graph with a node after every tensor that the plan rounds; it computes what ``emulate`` computes.

    Batch norm is folded, but under a plan of binary weights: these would lose its factors. A weight that several layers share is rounded
    once.

    Raises: ``UsageError`` for a rule that matches nothing or lacks its calibration; ``UnsupportedError`` for what QONNX cannot say:
    floating point, blocks, narrow sums, other roundings.
    """
    if not any(rule.role == "weight" and rule.format is not None and rule.format.kind == "binary" for rule in plan.rules):
        graph = fold_batch_norm(graph)
    rounded = Rounded(graph)
    for assigned in resolve(plan, graph):
        rule = assigned.rule
        if rule is None or rule.format is None:
            continue
        check(assigned, rule)
        if assigned.role == "activation":
            rounded.activation(assigned, rule, ranges)
        else:
            rounded.weight(assigned, rule)
    return rounded.graph_of_nodes()


def check(assigned: Assignment, rule: Rule) -> None:
    """Refuse what Quant and BipolarQuant have no meaning for."""
    where = f"layer {assigned.layer!r}, {assigned.role}"
    assert rule.format is not None
    if assigned.role == "accumulator" or rule.format.kind not in ("integer", "fixed", "binary"):
        raise UnsupportedError(
            f"{where}: {rule.format}; QONNX speaks integers, fixed point and binary values of weights, biases and activations"
        )
    if rule.rounding not in ROUNDING or rule.overflow != "saturate":
        known = ", ".join(ROUNDING)
        raise UnsupportedError(f"{where}: rounding {rule.rounding}, overflow {rule.overflow}; QONNX rounds {known}, and saturates")


class Rounded:
    """A graph that gets a node for each tensor that is rounded."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.weights: dict[str, NDArray[Any]] = dict(graph.weights)
        self.first: list[Node] = []  # of weights, which nothing comes before
        self.after: dict[str, Node] = {}
        self.read_as: dict[str, str] = {}

    def weight(self, assigned: Assignment, rule: Rule) -> None:
        """Round a weight or bias before anything reads it."""
        name = assigned.tensor
        if name in self.read_as:
            return
        w = self.graph.weights[name]
        steps, along = weight_steps(w, rule, assigned.axis)
        scale = unit(rule) if steps is None else along_axis(steps, along, w.ndim)
        self.first.append(self._node(name, rule, scale, 0, signed=signed(rule)))

    def activation(self, assigned: Assignment, rule: Rule, ranges: Ranges | None) -> None:
        """Round a value after the node that makes it; a scaled format that is not symmetric has a zero point and no sign."""
        assert rule.format is not None
        scale, zero, sign = unit(rule), 0, signed(rule)
        if rule.scale != "none":
            scale, least, _ = activation_range(assigned, rule, ranges)
            zero, sign = (0, True) if rule.format.symmetric else (-least, False)
        self.after[assigned.tensor] = self._node(assigned.tensor, rule, scale, zero, signed=sign)

    def _node(self, tensor: str, rule: Rule, scale: Any, zero: int, *, signed: bool) -> Node:
        assert rule.format is not None
        names = [f"{tensor}.quant.{what}" for what in ("scale", "zero", "bits")]
        self.read_as[tensor] = output = f"{tensor}.quant"
        self.weights[names[0]] = np.asarray(scale, np.float32)
        if rule.format.kind == "binary":
            return Node(output, "BipolarQuant", (tensor, names[0]), (output,))
        self.weights |= {names[1]: np.asarray(zero, np.float32), names[2]: np.asarray(rule.format.bits, np.float32)}
        attributes: dict[str, int | str] = {
            "signed": int(signed),
            "narrow": int(rule.format.symmetric),
            "rounding_mode": ROUNDING[rule.rounding],
        }
        return Node(output, "Quant", (tensor, *names), (output,), attributes)

    def graph_of_nodes(self) -> Graph:
        nodes = [*self.first, *(self.after[value.name] for value in self.graph.inputs if value.name in self.after)]
        for node in self.graph:
            nodes.append(dataclasses.replace(node, inputs=tuple(self.read_as.get(name, name) for name in node.inputs)))
            nodes += [self.after[name] for name in node.outputs if name in self.after]
        outputs = tuple(Value(self.read_as.get(v.name, v.name), v.shape, v.dtype) for v in self.graph.outputs)
        return Graph(self.graph.name, self.graph.inputs, outputs, tuple(nodes), self.weights)


def unit(rule: Rule) -> Any:
    """Return the step of a format without a scale: 1 for integers and binary values, a power of two for fixed point."""
    assert rule.format is not None
    return formats.smallest_positive(rule.format) if rule.format.kind == "fixed" else 1.0


def signed(rule: Rule) -> bool:
    """Tell whether the format without a zero point has a sign."""
    assert rule.format is not None
    return rule.format.signed
