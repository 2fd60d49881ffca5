"""What a plan means for one network: the format of every tensor, or the reason why it cannot be."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from convsmith.errors import UnsupportedError, UsageError, near
from convsmith.graph.network import Graph, Node
from convsmith.precision.plan import Plan, Role, Rule

EMULATED: Final[tuple[Role, ...]] = ("weight", "bias", "activation")

WEIGHT_INPUTS: Final[dict[str, dict[int, Role]]] = {
    "Conv": {1: "weight", 2: "bias"},
    "ConvTranspose": {1: "weight", 2: "bias"},
    "Gemm": {1: "weight", 2: "bias"},
    "MatMul": {0: "weight", 1: "weight"},
    "BatchNormalization": {1: "weight", 2: "bias"},
    "InstanceNormalization": {1: "weight", 2: "bias"},
    "GroupNormalization": {1: "weight", 2: "bias"},
    "LayerNormalization": {1: "weight", 2: "bias"},
    "PRelu": {1: "weight"},
    "Mul": {0: "weight", 1: "weight"},
    "Add": {0: "bias", 1: "bias"},
}
"""Which inputs of an operator are learned arrays, where they are constants. Running statistics and single numbers stay float32."""

MOVES: Final = frozenset(
    "MaxPool GlobalMaxPool Flatten Reshape Transpose Squeeze Unsqueeze Identity Slice Split Gather Pad Dropout Expand DepthToSpace "
    "SpaceToDepth Shape Constant ConstantOfShape Cast Range ArgMax".split()
)
"""Operators that choose or move values: what they give has been rounded already."""

FUSED: Final = frozenset({"Relu", "Clip"})
"""Activations that the layer before them applies before it stores its result."""


@dataclass(frozen=True)
class Assignment:
    """One tensor of one layer and the rule that decided its format; ``axis`` is that of the output channels of a weight."""

    layer: str
    op: str
    role: Role
    tensor: str
    rule: Rule | None
    axis: int | None = None

    @property
    def format_name(self) -> str:
        return "float32" if self.rule is None else self.rule.format_name


def tensors(graph: Graph) -> tuple[Assignment, ...]:
    """List every tensor a plan can speak of, in the order of computation, without a rule.

    Weights: the learned arrays of ``WEIGHT_INPUTS`` (role ``bias`` for what is added). Activations: the network's input (its layer is
    the input's name) and every value that is computed and stored: outputs of all operators but those of ``MOVES``, and of a layer
    followed by nothing but one ReLU or Clip only what that gives.
    """
    readers = Counter(source for node in graph for source in node.inputs) + Counter(value.name for value in graph.outputs)
    fused = {node.inputs[0] for node in graph if node.op in FUSED and readers[node.inputs[0]] == 1}
    found = [Assignment(value.name, "Input", "activation", value.name, None) for value in graph.inputs]
    for node in graph:
        for index, role in WEIGHT_INPUTS.get(node.op, {}).items():
            name = node.inputs[index] if index < len(node.inputs) else ""
            if name in graph.weights and graph.weights[name].size > 1 and graph.weights[name].dtype.kind == "f":
                found.append(Assignment(node.name, node.op, role, name, None, _channel_axis(node, graph.weights[name].ndim, role)))
        if node.op not in MOVES and node.outputs[0] not in fused:
            found.append(Assignment(node.name, node.op, "activation", node.outputs[0], None))
    return tuple(found)


def resolve(plan: Plan, graph: Graph) -> tuple[Assignment, ...]:
    """Return every tensor of the network with the rule that decides its format; the last rule that matches wins.

    Raises: ``UsageError`` for a rule that matches no layer, with the nearest name; ``UnsupportedError`` for roles and moments of training.
    """
    found = tensors(graph)
    for number, rule in enumerate(plan.rules, 1):
        _check(rule, number, found)
    return tuple(
        Assignment(t.layer, t.op, t.role, t.tensor, next((r for r in reversed(plan.rules) if _matches(r, t)), None), t.axis) for t in found
    )


def table(assignments: tuple[Assignment, ...]) -> str:
    """Return what each tensor became, one line each."""
    head = ("layer", "operator", "role", "format")
    rows = [(a.layer, a.op, a.role, a.format_name) for a in assignments]
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows))


def _matches(rule: Rule, tensor: Assignment) -> bool:
    return rule.role == tensor.role and fnmatchcase(tensor.layer, rule.layer)


def _check(rule: Rule, number: int, found: tuple[Assignment, ...]) -> None:
    where = f"rule {number} ({rule.layer!r}, {rule.role})"
    if rule.role not in EMULATED:
        raise UnsupportedError(f"{where}: role {rule.role!r} belongs to training; this version emulates {', '.join(EMULATED)}")
    if rule.moment != "layer":
        raise UnsupportedError(f"{where}: moment {rule.moment!r} is not emulated yet; this version rounds at moment 'layer'")
    if any(_matches(rule, tensor) for tensor in found):
        return
    layers = list(dict.fromkeys(t.layer for t in found if t.role == rule.role))
    some = ", ".join(layers[:5]) + (" ..." if len(layers) > 5 else "") or "none"
    raise UsageError(f"{where} matches nothing; layers with a tensor of that role are {some}.{near(rule.layer, layers)}")


def _channel_axis(node: Node, rank: int, role: Role) -> int | None:
    """The axis of a weight's output channels, None for a bias."""
    if role == "bias":
        return None
    if node.op == "Gemm":
        return 0 if node.attributes.get("transB", 0) else 1
    if node.op == "MatMul":
        return rank - 1
    return 1 if node.op == "ConvTranspose" else 0
