"""Which channels of a network belong together: what must be removed at once so that every layer still fits the next.

Each place along the channel axis of each value carries the number of a *unit*. Units that meet in an addition, a depthwise convolution or a
shared weight are one; concatenation, padding and flattening move them. Where an operator mixes channels in a way that cannot be cut
(softmax, grouped convolution, layer norm, unknown operators) and at the borders of the network, units are frozen.

References: Fang et al. 2023, DepGraph, arXiv:2301.12900, section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from convsmith.graph import Graph, Node, Shape, infer_shapes
from convsmith.kernels.pointwise import POINTWISE

Array = np.ndarray[Any, Any]

SAME: Final = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Dropout", "Identity", "Cast"})
"""Operators besides the pointwise ones that leave the channels where they are."""


@dataclass(frozen=True)
class Units:
    """The units along one axis of a value."""

    axis: int
    ids: Array


@dataclass
class Channels:
    """What `trace` found.

    ``values``: the units of each value. ``slices``: for each weight the axes that run over units. ``outputs``: the units that a layer
    makes. ``reads``: the value and units that a layer consumes. ``pads``: units that padding adds before and after, and where in its
    amounts they stand. ``targets``: reshapes whose target names a number of channels: where, and the units. ``groups``: nodes whose
    number of groups follows the units.
    """

    values: dict[str, Units] = field(default_factory=dict)
    slices: dict[str, list[Units]] = field(default_factory=dict)
    outputs: dict[str, Array] = field(default_factory=dict)
    reads: list[tuple[str, str, Units]] = field(default_factory=list)
    pads: dict[str, tuple[int, Array, Array]] = field(default_factory=dict)
    targets: dict[str, tuple[int, Array]] = field(default_factory=dict)
    groups: dict[str, Array] = field(default_factory=dict)
    parents: list[int] = field(default_factory=list)
    stuck: set[int] = field(default_factory=set)

    def fresh(self, count: int) -> Array:
        first = len(self.parents)
        self.parents.extend(range(first, first + count))
        return np.arange(first, first + count)

    def root(self, unit: int) -> int:
        while self.parents[unit] != unit:
            self.parents[unit] = self.parents[self.parents[unit]]
            unit = self.parents[unit]
        return unit

    def roots(self, ids: Array) -> Array:
        """Return the unit that stands for all it is joined with."""
        return np.array([self.root(int(unit)) for unit in ids], np.int64)

    def join(self, one: Array, other: Array) -> None:
        for a, b in zip(one, other, strict=True):
            high, low = sorted((self.root(int(a)), self.root(int(b))), reverse=True)
            self.parents[high] = low

    def freeze(self, ids: Array) -> None:
        self.stuck.update(int(unit) for unit in ids)

    @property
    def frozen(self) -> set[int]:
        return {self.root(unit) for unit in self.stuck}

    def cut(self, weight: str, axis: int, ids: Array) -> None:
        """Note that an axis of a weight runs over units; where it does so twice, they are the same."""
        known = self.slices.setdefault(weight, [])
        for units in known:
            if units.axis == axis:
                self.join(units.ids, ids)
                return
        known.append(Units(axis, ids))


@dataclass
class _Tracer:
    """The walk over a graph."""

    graph: Graph
    shapes: dict[str, Shape]
    found: Channels

    def constant(self, name: str) -> Array | None:
        return self.graph.weights.get(name)

    def give(self, node: Node, units: Units | None) -> None:
        """Give the first output its units, and every output without any new ones that stay."""
        for index, name in enumerate(node.outputs):
            shape = self.shapes[name]
            if index == 0 and units is not None:
                self.found.values[name] = units
            elif len(shape) > 1:
                self.found.values[name] = Units(1, self.found.fresh(shape[1]))
                self.found.freeze(self.found.values[name].ids)

    def freeze(self, node: Node) -> None:
        """Leave all that an operator touches as it is."""
        for name in node.inputs:
            if name in self.found.values:
                self.found.freeze(self.found.values[name].ids)
            for units in self.found.slices.get(name, []):
                self.found.freeze(units.ids)
        self.give(node, None)


def trace(graph: Graph) -> Channels:
    """Return which channels of a graph belong together."""
    found = Channels()
    tracer = _Tracer(graph, infer_shapes(graph), found)
    for value in graph.inputs:
        if len(value.shape) > 1:
            found.values[value.name] = Units(1, found.fresh(tracer.shapes[value.name][1]))
            found.freeze(found.values[value.name].ids)
    for node in graph:
        if not any(name in found.values for name in node.inputs):
            tracer.give(node, None)
        elif node.op in RULES:
            RULES[node.op](tracer, node)
        else:
            tracer.freeze(node)
    for value in graph.outputs:
        if value.name in found.values:
            found.freeze(found.values[value.name].ids)
    return found


def same(tracer: _Tracer, node: Node) -> None:
    tracer.give(node, tracer.found.values[node.inputs[0]])


def convolution(tracer: _Tracer, node: Node) -> None:
    x, w = tracer.found.values.get(node.inputs[0]), tracer.constant(node.inputs[1])
    groups: Any = node.attributes.get("group", 1)
    if x is None or x.axis != 1 or w is None or (groups != 1 and w.shape[1] != 1):
        return tracer.freeze(node)
    if groups == 1:
        out = tracer.found.fresh(w.shape[0])
        tracer.found.cut(node.inputs[1], 1, x.ids)
        tracer.found.reads.append((node.name, node.inputs[0], x))
    else:
        out = np.repeat(x.ids, w.shape[0] // groups)
        tracer.found.groups[node.name] = x.ids
    tracer.found.outputs[node.name] = out
    for name in node.inputs[1:]:
        if name:
            tracer.found.cut(name, 0, out)
    tracer.give(node, Units(1, out))


def dense(tracer: _Tracer, node: Node) -> None:
    x, w = tracer.found.values.get(node.inputs[0]), tracer.constant(node.inputs[1])
    turned = bool(node.attributes.get("transB", 0))
    last = len(tracer.shapes[node.inputs[0]]) - 1
    if x is None or x.axis != last or w is None or w.ndim != 2 or node.attributes.get("transA", 0):
        return tracer.freeze(node)
    out = tracer.found.fresh(w.shape[0 if turned else 1])
    tracer.found.cut(node.inputs[1], 1 if turned else 0, x.ids)
    tracer.found.cut(node.inputs[1], 0 if turned else 1, out)
    bias = tracer.constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
    if bias is not None and bias.shape[-1:] == out.shape:
        tracer.found.cut(node.inputs[2], bias.ndim - 1, out)
    tracer.found.reads.append((node.name, node.inputs[0], x))
    tracer.found.outputs[node.name] = out
    tracer.give(node, Units(last, out))


def normalisation(tracer: _Tracer, node: Node) -> None:
    x = tracer.found.values[node.inputs[0]]
    if x.axis != 1 or any(name not in tracer.graph.weights for name in node.inputs[1:]):
        return tracer.freeze(node)
    for name in node.inputs[1:]:
        tracer.found.cut(name, 0, x.ids)
    tracer.give(node, x)


def pointwise(tracer: _Tracer, node: Node) -> None:
    """Join the units of all operands; constants along the channels are cut with them."""
    rank = len(tracer.shapes[node.outputs[0]])
    operands = [(name, tracer.found.values[name]) for name in node.inputs if name in tracer.found.values]
    from_right = {units.axis - len(tracer.shapes[name]) for name, units in operands}
    others = [name for name in node.inputs if name and name not in tracer.found.values]
    if len(from_right) != 1 or any(name not in tracer.graph.weights for name in others):
        return tracer.freeze(node)
    right = from_right.pop()
    widest = max((units.ids for _, units in operands), key=len)
    if len(widest) != tracer.shapes[node.outputs[0]][right]:
        return tracer.freeze(node)
    for _, units in operands:
        if len(units.ids) == len(widest):
            tracer.found.join(units.ids, widest)
        else:
            tracer.found.freeze(units.ids)
    for name in others:
        array = tracer.graph.weights[name]
        if array.ndim >= -right and array.shape[right] == len(widest) > 1:
            tracer.found.cut(name, array.ndim + right, widest)
    tracer.give(node, Units(rank + right, widest))


def concatenation(tracer: _Tracer, node: Node) -> None:
    axis = int(node.attributes["axis"]) % len(tracer.shapes[node.outputs[0]])  # type: ignore[arg-type]
    operands = [tracer.found.values.get(name) for name in node.inputs]
    known = [units for units in operands if units is not None]
    if len(known) != len(operands) or len({units.axis for units in known}) != 1:
        return tracer.freeze(node)
    if axis == known[0].axis:
        return tracer.give(node, Units(axis, np.concatenate([units.ids for units in known])))
    for units in known[1:]:
        tracer.found.join(units.ids, known[0].ids)
    tracer.give(node, known[0])


def flattening(tracer: _Tracer, node: Node) -> None:
    """Spread each channel over its pixels, for results of two axes."""
    x, before, after = tracer.found.values[node.inputs[0]], tracer.shapes[node.inputs[0]], tracer.shapes[node.outputs[0]]
    if len(after) != 2 or x.axis != 1 or after != (before[0], int(np.prod(before[1:]))):
        return tracer.freeze(node)
    pixels = after[1] // before[1]
    if node.op == "Reshape":
        target = tracer.constant(node.inputs[1])
        if target is None:
            return tracer.freeze(node)
        if int(target.reshape(-1)[-1]) > 0:
            tracer.found.targets[node.name] = 1, np.repeat(x.ids, pixels)
    tracer.give(node, Units(1, np.repeat(x.ids, pixels)))


def transposition(tracer: _Tracer, node: Node) -> None:
    x, rank = tracer.found.values[node.inputs[0]], len(tracer.shapes[node.inputs[0]])
    perm: Any = node.attributes.get("perm", tuple(range(rank))[::-1])
    tracer.give(node, Units(tuple(perm).index(x.axis), x.ids))


def resizing(tracer: _Tracer, node: Node) -> None:
    sizes = len(node.inputs) > 3 and node.inputs[3]
    return tracer.freeze(node) if sizes else same(tracer, node)


def reduction(tracer: _Tracer, node: Node) -> None:
    x, rank = tracer.found.values[node.inputs[0]], len(tracer.shapes[node.inputs[0]])
    axes = tracer.constant(node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1] else None
    reduced = {int(axis) % rank for axis in axes.reshape(-1)} if axes is not None else {x.axis}
    if x.axis in reduced:
        return tracer.freeze(node)
    before = 0 if node.attributes.get("keepdims", 1) else sum(axis < x.axis for axis in reduced)
    tracer.give(node, Units(x.axis - before, x.ids))


def padding(tracer: _Tracer, node: Node) -> None:
    """Add units before and after, for padding with channels of a constant."""
    x, rank = tracer.found.values[node.inputs[0]], len(tracer.shapes[node.inputs[0]])
    amounts = tracer.constant(node.inputs[1])
    axes = tracer.constant(node.inputs[3]) if len(node.inputs) > 3 and node.inputs[3] else np.arange(rank)
    if amounts is None or axes is None or x.axis not in [int(axis) % rank for axis in axes]:
        return tracer.freeze(node) if amounts is None or axes is None else tracer.give(node, x)
    place = [int(axis) % rank for axis in axes].index(x.axis)
    before, after = int(amounts[place]), int(amounts[len(axes) + place])
    if before < 0 or after < 0 or node.attributes.get("mode", "constant") != "constant":
        return tracer.freeze(node)
    front, back = tracer.found.fresh(before), tracer.found.fresh(after)
    if before or after:
        tracer.found.pads[node.name] = place, front, back
    tracer.give(node, Units(x.axis, np.concatenate([front, x.ids, back])))


RULES: dict[str, Callable[[_Tracer, Node], None]] = {
    **dict.fromkeys(set(POINTWISE) - {"Softmax", "LogSoftmax"}, pointwise),
    **dict.fromkeys(SAME, same),
    "Clip": same,
    "Resize": resizing,
    "Conv": convolution,
    "Gemm": dense,
    "MatMul": dense,
    "BatchNormalization": normalisation,
    "Concat": concatenation,
    "Flatten": flattening,
    "Reshape": flattening,
    "Transpose": transposition,
    "ReduceMean": reduction,
    "ReduceSum": reduction,
    "ReduceMax": reduction,
    "ReduceMin": reduction,
    "Pad": padding,
}
