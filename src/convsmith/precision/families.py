"""Uniform plans: one format for the weights, the activations or both of every layer, in families ordered from few bits to many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from glob import escape
from typing import Final, Literal

import numpy as np

from convsmith import formats
from convsmith.errors import UsageError, near
from convsmith.formats import Format
from convsmith.graph.network import Graph
from convsmith.precision.assignment import tensors
from convsmith.precision.calibration import Ranges, integer_bits
from convsmith.precision.plan import Plan
from convsmith.precision.rule import Role, Rule
from convsmith.redesign import fold_batch_norm

Tensors = Literal["weight", "activation", "both"]
TENSORS: Final[tuple[Tensors, ...]] = ("weight", "activation", "both")

FAMILIES: Final[dict[str, str]] = {
    "int": "integers: one step size for each output channel of weights, for each tensor of activations",
    "fixed": "fixed point: integer bits from the ranges seen, fraction bits varied",
    "float e5": "significand bits at 5 exponent bits, the range of fp16",
    "exponent": "exponent bits at 7 significand bits",
    "float e8": "significand bits at 8 exponent bits, the range of float32",
}
"""The families by name, cheapest first: what they find spares a search the wider ones."""

SIGNIFICANDS: Final = {8: (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16), 5: (0, 1, 2, 3, 4, 5, 6, 8, 10)}
EXPONENTS: Final = (2, 3, 4, 5, 6, 8)
FIXED_BITS: Final = (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 20)
INTEGER_BITS: Final = (2, 3, 4, 5, 6, 7, 8)


@dataclass(frozen=True)
class Candidate:
    """A plan to evaluate. ``bits``: the width of one value, its cost; ``family`` orders candidates that differ in bits alone."""

    family: str
    format: str
    tensors: Tensors
    bits: float
    plan: Plan
    cost: float | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        return self.family, self.format, self.tensors


@dataclass(frozen=True)
class Layout:
    """What a uniform plan must know of a network: the roles it has tensors of, and the layers whose activation is the network's output."""

    roles: tuple[Role, ...] = ("weight", "bias", "activation")
    outputs: tuple[str, ...] = ()


def layout(graph: Graph) -> Layout:
    """Return the layout of the network, batch norm folded."""
    found = tensors(fold_batch_norm(graph))
    names = {value.name for value in graph.outputs}
    outputs = tuple(tensor.layer for tensor in found if tensor.role == "activation" and tensor.tensor in names)
    return Layout(tuple(dict.fromkeys(tensor.role for tensor in found)), outputs)


def uniform(weight: Format | None, activation: Format | None, network: Layout = Layout()) -> Plan:
    """Return the plan that gives all weights one format and all activations one; None leaves them in float32.

    Floats and fixed point also round biases. Integers are scaled: weights symmetric with a step for each output channel, activations with
    one step and zero point for each tensor; biases stay float32 there, standing for the 32-bit integers of hardware.
    ``network``: its roles, since a rule that matches nothing is an error, and its outputs, which stay float32 by a rule of their own: the
    class is read from the last sums, and rounding those would make ties that no machine makes.
    """
    rules = []
    if weight is not None and "weight" in network.roles:
        rules.append(scaled_rule("*", "weight", weight))
    if weight is not None and weight.kind != "integer" and "bias" in network.roles:
        rules.append(scaled_rule("*", "bias", weight))
    if activation is not None and "activation" in network.roles:
        rules.append(scaled_rule("*", "activation", activation))
        rules += [Rule(escape(layer), "activation", None) for layer in network.outputs]
    return Plan(tuple(rules), _name(weight, activation))


def candidate(fmt: Format | str, network: Layout, which: Tensors = "both", family: str | None = None) -> Candidate:
    """Return the candidate of one format, for weights, activations or both."""
    fmt = formats.parse(fmt) if isinstance(fmt, str) else fmt
    if which not in TENSORS:
        raise UsageError(f"tensors is {which!r}; allowed are {', '.join(TENSORS)}.{near(which, TENSORS)}")
    name = {"float": f"float e{fmt.exponent_bits}", "fixed": f"fixed<{fmt.integer_bits},*>", "integer": "int"}[fmt.kind]
    return _candidate(family or name, fmt, fmt, which, fmt.bits, network)


def candidates(
    graph: Graph, ranges: Ranges | None = None, families: Sequence[str] | None = None, which: Sequence[Tensors] = TENSORS
) -> tuple[Candidate, ...]:
    """Return the uniform plans of the families of ``FAMILIES``, by family and tensors, few bits first.

    Raises: ``UsageError`` for an unknown family, or ``fixed`` without ``ranges`` (left out when no families are named).
    """
    chosen = tuple(families) if families is not None else tuple(name for name in FAMILIES if name != "fixed" or ranges is not None)
    for name in chosen:
        if name not in FAMILIES:
            raise UsageError(f"no family {name!r}; allowed are {', '.join(FAMILIES)}.{near(name, FAMILIES)}")
    if "fixed" in chosen and ranges is None:
        raise UsageError("the family 'fixed' takes its integer bits from ranges; give those of precision.calibrate")
    network = layout(graph)
    return tuple(
        _candidate(name, weight, activation, tensor, bits, network)
        for name in chosen
        for tensor in which
        for weight, activation, bits in _formats(name, graph, ranges)
    )


def _formats(family: str, graph: Graph, ranges: Ranges | None) -> list[tuple[Format, Format, int]]:
    if family == "int":
        return [(f, f, f.bits) for f in map(Format.integer, INTEGER_BITS)]
    if family == "fixed":
        assert ranges is not None
        return _fixed(graph, ranges)
    if family == "exponent":
        made = [Format.float(e, 7) for e in EXPONENTS]
    else:
        made = [Format.float(int(family[-1]), m) for m in SIGNIFICANDS[int(family[-1])]]
    return [(f, f, f.bits) for f in made]


def _fixed(graph: Graph, ranges: Ranges) -> list[tuple[Format, Format, int]]:
    """One integer width for all weights and one for all activations, so that nothing seen overflows; equal total bits."""
    folded = fold_batch_norm(graph)
    names = {tensor.tensor for tensor in tensors(folded) if tensor.role != "activation"}
    largest_weight = max((float(np.abs(folded.weights[name]).max()) for name in names), default=0.0)
    largest_activation = max((max(-found.low, found.high) for found in ranges.tensors.values()), default=0.0)
    weight, activation = integer_bits(largest_weight), integer_bits(largest_activation)
    return [(Format.fixed(weight, bits - weight), Format.fixed(activation, bits - activation), bits) for bits in FIXED_BITS]


def _candidate(family: str, weight: Format, activation: Format, which: Tensors, bits: int, network: Layout) -> Candidate:
    w, a = (weight if which != "activation" else None), (activation if which != "weight" else None)
    plan = uniform(w, a, network)
    return Candidate(family, plan.name, which, bits, plan)


def scaled_rule(layer: str, role: Role, fmt: Format) -> Rule:
    """Return the rule of a format, with the scale that integers need: weights symmetric by channel, activations affine by tensor."""
    if fmt.kind != "integer":
        return Rule(layer, role, fmt)
    if role == "weight":
        return Rule(layer, role, Format.integer(fmt.bits, symmetric=True), scale="channel")
    return Rule(layer, role, fmt, scale="tensor")


def _name(weight: Format | None, activation: Format | None) -> str:
    if weight is None or activation is None:
        fmt, what = (activation, "activations") if weight is None else (weight, "weights")
        return "float32" if fmt is None else f"{fmt} {what}"
    return str(weight) if weight == activation else f"{weight} weights, {activation} activations"
