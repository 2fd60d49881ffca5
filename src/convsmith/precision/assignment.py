"""What a plan means for one network: the format of every tensor, or the reason why it cannot be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from convsmith.errors import UnsupportedError, UsageError
from convsmith.graph.network import Graph, Node
from convsmith.precision.matching import Assignment, decide, require_exempt, require_matches, table
from convsmith.precision.plan import Plan
from convsmith.precision.rule import Role, Rule

__all__ = ["EMULATED", "Assignment", "resolve", "table", "tensors"]

EMULATED: Final[tuple[Role, ...]] = ("weight", "bias", "activation", "accumulator")

SUMS: Final = frozenset({"Conv", "Gemm", "MatMul"})
"""Operators whose sums of products can be narrower than float32."""

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


def accumulators(graph: Graph) -> tuple[Assignment, ...]:
    """List the sums of products that a plan can speak of."""
    return tuple(
        Assignment(node.name, node.op, "accumulator", "sums", None)
        for node in graph
        if node.op in SUMS and any(name in graph.weights for name in node.inputs[:2])
    )


def resolve(plan: Plan, graph: Graph) -> tuple[Assignment, ...]:
    """Return every tensor of the network with the rule that decides its format; the last rule that matches wins.

    Raises: ``UsageError`` for a rule that matches no layer, with the nearest name; ``UnsupportedError`` for roles and moments of training.
    """
    found = tensors(graph)
    if any(rule.role == "accumulator" for rule in plan.rules):
        found += accumulators(graph)
    if plan.phases:
        raise UnsupportedError(
            f"plan {plan.name!r} changes its rules in {len(plan.phases)} phases, which belongs to training; give one phase"
        )
    _check(plan.rules)
    require_matches(plan.rules, found)
    require_exempt(plan.exempt, found)
    return tuple(decide(plan.rules, plan.exempt, tensor) for tensor in found)


def _check(rules: Sequence[Rule]) -> None:
    """Refuse what belongs to training, and scales that inference of a graph does not have."""
    for number, rule in enumerate(rules, 1):
        where = f"rule {number} ({rule.layer!r}, {rule.role})"
        if rule.role not in EMULATED:
            raise UnsupportedError(
                f"{where}: role {rule.role!r} belongs to training, and a graph is emulated for inference: {', '.join(EMULATED)}; "
                "emulate the torch module instead"
            )
        if rule.moment != "layer" and rule.role != "accumulator":
            raise UnsupportedError(f"{where}: a graph is rounded at moment 'layer', not {rule.moment!r}; emulate the torch module instead")
        if rule.scale not in ("none", "tensor", "channel"):
            raise UnsupportedError(f"{where}: scale {rule.scale!r} is not emulated on a graph; emulate the torch module instead")
        signs = rule.role == "weight" and rule.format is not None and rule.format.kind == "binary"
        if rule.scale != "none" and rule.format is not None and rule.format.kind != "integer" and not signs:
            raise UsageError(
                f"{where}: scale {rule.scale!r} of a graph is for integers and binary weights; {rule.format_name} has its own range, "
                "so scale must be 'none'"
            )


def _channel_axis(node: Node, rank: int, role: Role) -> int | None:
    """The axis of a weight's output channels, None for a bias."""
    if role == "bias":
        return None
    if node.op == "Gemm":
        return 0 if node.attributes.get("transB", 0) else 1
    if node.op == "MatMul":
        return rank - 1
    return 1 if node.op == "ConvTranspose" else 0
