"""A graph under a plan as ONNX writes it: QuantizeLinear and DequantizeLinear around 8-bit codes, weights rounded to 16-bit floats."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from convsmith import formats
from convsmith.errors import UnsupportedError, UsageError
from convsmith.graph import prune
from convsmith.graph.network import Graph, Node, Value
from convsmith.precision.affine_range import activation_range, along_axis, sum_codes, weight_steps
from convsmith.precision.assignment import Assignment, resolve
from convsmith.precision.binarisation import binarise
from convsmith.precision.calibration import Ranges
from convsmith.precision.plan import Plan
from convsmith.precision.rule import Rule
from convsmith.redesign import fold_batch_norm

LAYERS: Final = ("Conv", "Gemm", "MatMul")
"""Layers whose bias is given in units of their sums."""

MOVED: Final = ("Flatten", "Reshape", "Identity", "MaxPool", "Dropout", "Transpose", "Squeeze", "Unsqueeze")
"""Operators that choose among codes or move them."""

STORED: Final = (formats.parse("bf16"), formats.parse("fp16"))
"""Floats that weights are stored in; they are computed with in float32."""


def quantise(graph: Graph, plan: Plan, ranges: Ranges | None = None) -> Graph:
    """Return the graph with codes where the plan says int8: weights, and activations with the steps that ``emulate`` takes.

    Weights and biases in bf16 or fp16 are rounded numbers, which files keep in 16 bits. Biases between codes become the 32-bit integers of
    the sums. What the plan leaves in float32 stays so; what it makes binary becomes signs (``binarise``), and binary weights that read
    codes become codes of -1 and 1. Batch norm that is not folded yet will be. One difference from ``emulate``: sums are exact here,
    float32 there.

    Raises: ``UsageError`` for a rule that matches nothing or lacks its calibration; ``UnsupportedError`` for formats other than integers
    of 8 bits (weights: at most 8, symmetric), bf16 or fp16 (weights) rounded to nearest.
    """
    folded = fold_batch_norm(graph)
    assigned = {(a.tensor, a.role): a for a in resolve(plan, folded) if a.rule is not None and a.rule.format is not None}
    binary = binarise(graph, plan)
    quantised = Quantised(folded if binary is graph else fold_batch_norm(binary), ranges)
    for (_, role), assignment in assigned.items():
        assert assignment.rule is not None and assignment.rule.format is not None
        if assignment.rule.format.kind == "binary":
            continue
        if role in ("weight", "bias") and assignment.rule.format in STORED and assignment.rule.scale == "none":
            quantised.number(assignment, assignment.rule)
            continue
        checked(assignment, assignment.rule)
        if role == "weight":
            quantised.weight(assignment, assignment.rule)
        elif role == "activation":
            quantised.activation(assignment, assignment.rule)
    for (_, role), assignment in assigned.items():
        if role == "weight" and assignment.rule is not None and assignment.rule.format is not None:
            if assignment.rule.format.kind == "binary":
                quantised.signs(assignment)
    return quantised.graph_of_codes()


def checked(assigned: Assignment, rule: Rule) -> None:
    """Refuse formats that the engine does not compute in."""
    assert rule.format is not None
    where, fmt = f"layer {assigned.layer!r}, {assigned.role}", rule.format
    if fmt.kind != "integer" or rule.rounding != "nearest_even" or rule.overflow != "saturate" or rule.scale == "none":
        raise UnsupportedError(
            f"{where}: {fmt} {rule.rounding} with scale {rule.scale!r}; the engine runs scaled int8, rounded to nearest and saturated, and "
            "float32, whose weights may be stored in bf16 or fp16. precision.emulate runs every plan"
        )
    if assigned.role == "activation" and fmt.bits != 8:
        raise UnsupportedError(f"{where}: {fmt}; the engine's activations have 8 bits. precision.emulate runs every plan")
    if assigned.role == "weight" and (fmt.bits > 8 or not fmt.symmetric):
        raise UnsupportedError(f"{where}: {fmt}; the engine's weights are symmetric, of at most 8 bits, such as int8:symmetric")


class Quantised:
    """A graph that gets codes tensor by tensor."""

    def __init__(self, graph: Graph, ranges: Ranges | None) -> None:
        self.graph, self.ranges = graph, ranges
        self.weights: dict[str, NDArray[Any]] = dict(graph.weights)
        self.before: dict[str, list[Node]] = {}  # nodes that go before a node
        self.after: dict[str, list[Node]] = {}  # nodes that go after the one that makes a value; "" for inputs
        self.read_as: dict[str, str] = {}
        self.steps: dict[str, NDArray[np.float32]] = {}

    def number(self, assigned: Assignment, rule: Rule) -> None:
        """Round a weight or bias to a format that it is stored in."""
        assert rule.format is not None
        self.weights[assigned.tensor] = formats.round_array(self.graph.weights[assigned.tensor], rule.format, rule.rounding, rule.overflow)

    def weight(self, assigned: Assignment, rule: Rule) -> None:
        """Put int8 codes and a DequantizeLinear in the place of a weight."""
        name, w = assigned.tensor, self.graph.weights[assigned.tensor]
        assert rule.format is not None
        most = formats.max_value(rule.format)
        scale, along = weight_steps(w, rule, assigned.axis)
        assert scale is not None
        codes = np.clip(np.rint(w / along_axis(scale, along, w.ndim)), -most, most).astype(np.int8)
        attributes = {} if along is None else {"axis": along}
        self._constant(name, codes, scale, assigned.layer, attributes)
        self.steps[name] = scale

    def signs(self, assigned: Assignment) -> None:
        """Put codes of -1 and 1 in the place of binary weights of one size in each channel, where their layer reads codes."""
        name = assigned.tensor
        layer = next((node for node in self.graph if node.name == assigned.layer and node.op in LAYERS), None)
        if name not in self.graph.weights:  # packed: its layer reads signs
            return
        w = self.graph.weights[name]
        if layer is None or not self._has_codes(layer.inputs[0]) or assigned.axis != 0:
            return
        size = np.abs(w).reshape(len(w), -1).max(axis=1)
        if not np.array_equal(np.abs(w), np.broadcast_to(along_axis(size, 0, w.ndim), w.shape)):
            return
        scale = np.where(size == 0, np.float32(1), size).astype(np.float32)
        self._constant(name, np.sign(w).astype(np.int8), scale, assigned.layer, {"axis": 0})
        self.steps[name] = scale

    def _has_codes(self, value: str) -> bool:
        """Tell whether a value is codes, moved about at most."""
        producers = {output: node for node in self.graph for output in node.outputs}
        while self.read_as.get(value) not in self.steps:
            node = producers.get(value)
            if node is None or node.op not in MOVED:
                return False
            value = node.inputs[0]
        return True

    def activation(self, assigned: Assignment, rule: Rule) -> None:
        """Put QuantizeLinear and DequantizeLinear after a value."""
        assert rule.format is not None
        tensor = assigned.tensor
        if self.ranges is None:
            raise UsageError(f"activation {tensor!r} needs its range: give ranges, those of precision.calibrate on some images")
        step, least, _ = activation_range(assigned, rule, self.ranges)
        zero = np.asarray(0, np.int8) if rule.format.symmetric else np.asarray(-least, np.uint8)
        names = [f"{tensor}.{what}" for what in ("scale", "zero", "codes", "rounded")]
        self.weights |= {names[0]: np.asarray(step, np.float32), names[1]: zero}
        self.after[tensor] = [
            Node(f"{tensor}.quantise", "QuantizeLinear", (tensor, *names[:2]), (names[2],)),
            Node(f"{tensor}.dequantise", "DequantizeLinear", (names[2], *names[:2]), (names[3],)),
        ]
        self.read_as[tensor] = names[3]
        self.steps[names[3]] = np.asarray(step, np.float32)

    def graph_of_codes(self) -> Graph:
        nodes = [node for value in self.graph.inputs for node in self.after.get(value.name, [])]
        for node in self.graph:
            inputs = tuple(self.read_as.get(name, name) for name in node.inputs)
            bias = self._bias(node, inputs)
            nodes += self.before.get(node.name, [])
            nodes.append(dataclasses.replace(node, inputs=inputs if bias is None else (*inputs[:2], bias)))
            nodes += [new for name in node.outputs for new in self.after.get(name, [])]
        outputs = tuple(Value(self.read_as.get(v.name, v.name), v.shape, v.dtype) for v in self.graph.outputs)
        return prune(Graph(self.graph.name, self.graph.inputs, outputs, tuple(nodes), self.weights))

    def _bias(self, node: Node, inputs: tuple[str, ...]) -> str | None:
        """Return the name of a bias in units of the sums, where image and weights are codes."""
        x, w = (self.steps.get(name) for name in (inputs[0], node.inputs[1])) if node.op in LAYERS else (None, None)
        name = node.inputs[2] if len(node.inputs) > 2 else ""
        if x is None or w is None or name not in self.graph.weights or self.graph.weights[name].ndim != 1:
            return None
        codes, scale = sum_codes(self.weights[name], x, w)
        own = f"{node.name}.bias.whole"
        self._constant(own, codes, scale, node.name, {"axis": 0}, own)
        return self.read_as.pop(own)

    def _constant(
        self, name: str, codes: NDArray[Any], scale: NDArray[np.float32], layer: str, attributes: Mapping[str, Any], prefix: str = ""
    ) -> None:
        """Add constant codes and the node that makes numbers of them, before their layer."""
        prefix = prefix or name
        names = [f"{prefix}.{what}" for what in ("codes", "scale", "numbers")]
        self.weights |= {names[0]: codes, names[1]: np.asarray(scale, np.float32)}
        self.before.setdefault(layer, []).append(
            Node(f"{prefix}.dequantise", "DequantizeLinear", tuple(names[:2]), (names[2],), attributes)
        )
        self.read_as[name] = names[2]
