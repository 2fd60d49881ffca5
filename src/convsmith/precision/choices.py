"""What a search by layers decides: the format of each weight and of each stored activation, among given ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from glob import escape
from typing import Literal

from convsmith import formats
from convsmith.errors import UsageError
from convsmith.formats import Format
from convsmith.graph.network import Graph
from convsmith.precision.assignment import tensors
from convsmith.precision.families import Tensors, scaled_rule
from convsmith.precision.plan import Plan
from convsmith.precision.rule import Rule
from convsmith.precision.workload import Workload, workload
from convsmith.redesign import fold_batch_norm

INTEGERS = tuple(Format.integer(bits) for bits in range(2, 9))
"""What is chosen from unless formats are given."""


@dataclass(frozen=True)
class Group:
    """Numbers that share a format: a weight, in all layers that read it and with their biases, or a stored activation."""

    role: Literal["weight", "activation"]
    tensor: str
    layers: tuple[str, ...]
    biased: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.layers[0]} {self.role}"


@dataclass(frozen=True)
class Choices:
    """Groups of a network in the order of computation, and the formats each may have, few bits first."""

    groups: tuple[Group, ...]
    formats: tuple[Format, ...]
    workload: Workload

    def plan(self, chosen: Mapping[str, Format | None], name: str = "") -> Plan:
        """Return the plan that gives each group, by its tensor, a format; None leaves it in float32."""
        rules: list[Rule] = []
        for group in self.groups:
            fmt = chosen.get(group.tensor)
            if fmt is None:
                continue
            for layer in group.layers:
                rules.append(scaled_rule(escape(layer), group.role, fmt))
            if fmt.kind != "integer":
                rules += [Rule(escape(layer), "bias", fmt) for layer in group.biased]
        return Plan(tuple(rules), name or self.describe(chosen))

    def describe(self, chosen: Mapping[str, Format | None]) -> str:
        """Name an assignment by the mean bits of its weights and activations."""
        parts = []
        for role, what in (("weight", "weights"), ("activation", "activations")):
            if any(group.role == role for group in self.groups):
                parts.append(f"{self.mean_bits(chosen, role):.2f} bits {what}")
        return "by layers: " + ", ".join(parts)

    def mean_bits(self, chosen: Mapping[str, Format | None], role: str) -> float:
        """Return the mean width of the numbers of a role."""
        mine = [group for group in self.groups if group.role == role]
        numbers = self.workload.numbers
        whole = sum(numbers[group.tensor] for group in mine)
        return sum(numbers[group.tensor] * bits_of(chosen.get(group.tensor)) for group in mine) / max(1, whole)


def bits_of(fmt: Format | None) -> int:
    """Return the width of one number; float32 has 32 bits."""
    return 32 if fmt is None else fmt.bits


def choices(graph: Graph, which: Sequence[Format | str] | None = None, roles: Tensors = "both") -> Choices:
    """Return what can be decided in a network; the activations that are its outputs stay float32, as in uniform plans.

    Raises: ``UsageError`` without formats, for one given twice, or for a network that has nothing to decide.
    """
    folded = fold_batch_norm(graph)
    options = tuple(formats.parse(f) if isinstance(f, str) else f for f in (INTEGERS if which is None else which))
    if not options:
        raise UsageError("no formats to choose from; give at least one, for example int8")
    if len(set(options)) != len(options):
        raise UsageError(f"a format is given twice: {', '.join(map(str, options))}")
    outputs = {value.name for value in folded.outputs}
    found = tensors(folded)
    biased = {tensor.layer for tensor in found if tensor.role == "bias"}
    groups: dict[str, Group] = {}
    for tensor in found:
        if tensor.role == "bias" or tensor.tensor in outputs or (roles != "both" and tensor.role != roles):
            continue
        known = groups.get(tensor.tensor)
        layers = (*(known.layers if known else ()), tensor.layer)
        mine = tuple(layer for layer in layers if layer in biased) if tensor.role == "weight" else ()
        role: Literal["weight", "activation"] = "weight" if tensor.role == "weight" else "activation"
        groups[tensor.tensor] = Group(role, tensor.tensor, layers, mine)
    if not groups:
        raise UsageError(f"the network has no {'weights or activations' if roles == 'both' else roles} to choose a format for")
    return Choices(tuple(groups.values()), tuple(sorted(options, key=lambda f: f.bits)), workload(graph))
