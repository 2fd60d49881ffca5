"""From the image to the scores: what every value of a network can be under a plan, one operator after the other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from convsmith.graph.network import Graph, Node
from convsmith.interop.torch_operators import OPERATORS
from convsmith.precision.certificate.enclosure import FAST, Enclosure, Link, Numbers, Walk, constant
from convsmith.precision.certificate.layer import Layer, adjoint, terms_back, terms_of
from convsmith.precision.certificate.maxima import OUTSIDE, tournament, windows_of
from convsmith.precision.certificate.roundoff import FLOAT32, SumBound
from convsmith.precision.certificate.setting import AVERAGES, MAXIMA, MOVES, POINTWISE, PRODUCTS, Setting, Store

Bounds = Mapping[str, SumBound]
Layers = dict[tuple[str, torch.dtype], Layer]
NOTHING: Final = SumBound(0.0, 0.0, 1.0, 0.0)


@torch.no_grad()
def walk(
    graph: Graph,
    x: Tensor,
    setting: Setting | None,
    bounds: Bounds,
    *,
    keep: bool = False,
    likely: bool = False,
    numbers: Numbers = FAST,
    layers: Layers | None = None,
) -> Walk:
    """Carry a batch of images through the network.

    ``setting`` None: exact arithmetic, so that radii hold nothing but the errors of ``numbers``. ``bounds``: of the sums of each layer.
    ``keep``: keep the links; ``likely``: rounding errors are mean-zero in them. ``layers``: what was made of the weights, kept for more.
    """
    found = Walk()
    step = _Step(graph, setting, bounds, found, keep, likely, numbers, {} if layers is None else layers)
    name = graph.inputs[0].name
    found.values[name] = step.stored(name, Enclosure(x.to(numbers.dtype), torch.zeros_like(x, dtype=numbers.dtype)))
    last = {source: node.name for node in graph for source in node.inputs}
    for node in graph:
        output = node.outputs[0]
        found.values[output] = step.stored(output, step.run(node))
        for source in node.inputs:
            if last.get(source) == node.name and source in found.values:
                del found.values[source]
    scores = found.values[graph.outputs[0].name]
    found.blame(~(torch.isfinite(scores.centre) & torch.isfinite(scores.radius)).all(1), "values are not finite")
    return found


class _Step:
    """The rules of one operator each."""

    def __init__(
        self,
        graph: Graph,
        setting: Setting | None,
        bounds: Bounds,
        found: Walk,
        keep: bool,
        likely: bool,
        numbers: Numbers,
        layers: Layers,
    ) -> None:
        self.graph, self.setting, self.bounds, self.found, self.keep, self.likely = graph, setting, bounds, found, keep, likely
        self.numbers, self.few, self.least, self.layers = numbers, numbers.few, numbers.least, layers

    def run(self, node: Node) -> Enclosure:
        if node.op in PRODUCTS or node.op in AVERAGES:
            return self.products(node)
        if node.op in MOVES:
            return self.moves(node)
        if node.op in MAXIMA:
            return self.maximum(node)
        return self.pointwise(node) if node.op in POINTWISE else self.addition(node)

    def given(self, name: str) -> Any:
        """Return a value as an enclosure, a floating-point weight as one without radius, other constants as arrays, and None for none."""
        if not name or name in self.found.values:
            return self.found.values.get(name)
        weight = self.graph.weights[name]
        return constant(weight, self.numbers.dtype) if weight.dtype.kind == "f" else weight

    def link(self, node: Node, link: Link) -> None:
        if self.keep:
            self.found.links.append((node.outputs[0], link))

    # sums of products -----------------------------------------------------------------------------------------------------------

    def products(self, node: Node) -> Enclosure:
        """Enclose what a layer of products or averages gives: machine sums around the sum of the stored inputs."""
        x: Enclosure = self.given(node.inputs[0])
        key = node.name, self.numbers.dtype
        layer = self.layers[key] = self.layers.get(key) or Layer(self.graph, node, self.numbers.dtype)
        centre, longest = layer(x.centre)
        size_x, shape = x.centre.abs(), tuple(x.centre.shape[1:])
        terms, bound = terms_of(self.graph, node, size_x), self.bounds.get(node.name, NOTHING)
        own, all_own = self.numbers.gamma(longest or terms), self.numbers.gamma(terms)
        if not (bound.is_finite and math.isfinite(all_own)):
            self.found.blame(
                torch.ones(len(centre), dtype=torch.bool), f"sums of layer {node.name!r} have no bound: too many terms for so few bits"
            )
            return Enclosure(centre, torch.full_like(centre, torch.inf))
        carried = layer.spread(x.radius).mul_(1 + all_own).add_(self.least)
        size = layer.size(size_x + x.radius).mul_(1 + all_own).add_(self.least)
        magnitude = centre.abs()
        steady = (size * own).add_(magnitude, alpha=self.few).add_(self.least)
        radius = carried + steady
        if self.setting is not None:
            self._check_reach(node, bound, size, terms)
            # a product with a stored zero is zero, and adding it rounds nothing
            count = layer.count((size_x > 0).logical_or_(x.radius > 0)).add_(1) if node.op in PRODUCTS else torch.full((), float(terms + 1))
            total = magnitude.add_(radius)
            error = bound.error(count, size, total)
            radius.add_(error)
            if self.keep:
                link = Link(node.inputs[:1], lambda g, _: (layer.back(g, shape),))
                random = self.likely and bound.factor is not None
                link.bounded = steady.add_(bound.steady(count, size, total) if random else error)
                # the way back has rounding errors of its own, which meet deviations of at most the radius
                link.bounded.add_(carried, alpha=self.numbers.gamma(terms_back(self.graph, node))).mul_(1 + self.few)
                if random:
                    link.spread = bound.spread(count, size, total).mul_(1 + self.few)
                    link.compensated = bound.compensated * size + bound.compensated_absolute
                self.link(node, link)
        return Enclosure(centre, radius.mul_(1 + self.few))

    def _check_reach(self, node: Node, bound: SumBound, size: Tensor, terms: int) -> None:
        assert self.setting is not None
        limit, count = self.setting.sums[node.name].limit, 1 if node.op in PRODUCTS else terms
        inside = bound.reach * count * size.flatten(1).amax(1) * (1 + self.few) + bound.reach_absolute <= limit
        self.found.blame(~inside, f"sums may overflow in layer {node.name!r}")

    # values that are moved, added, chosen ------------------------------------------------------------------------------------

    def moves(self, node: Node) -> Enclosure:
        inputs = [self.given(name) if name else None for name in node.inputs]
        operator = OPERATORS[node.op]
        names = node.inputs if node.op in ("Concat", "Transpose") else node.inputs[:1]

        def move(values: Sequence[Any]) -> Any:
            rest = values if len(names) > 1 else [values[0], *(item.numpy() if isinstance(item, Tensor) else item for item in values[1:])]
            return operator(rest, node.attributes)

        sources = [item.centre if isinstance(item, Enclosure) else item for item in inputs]
        radius = move([item.radius if isinstance(item, Enclosure) else item for item in inputs])
        places = [index for index, name in enumerate(names) if name in self.found.values]
        shapes = [tuple(self.found.values[names[index]].centre.shape[1:]) for index in places]

        def back(g: Tensor, _: Tensor | None) -> tuple[Tensor, ...]:
            with torch.enable_grad():
                wanted = [g.new_zeros(len(g), *shape).requires_grad_() for shape in shapes]
                given = list(sources)
                for index, value in zip(places, wanted, strict=True):
                    given[index] = value
                return torch.autograd.grad(move(given), wanted, g)

        self.link(node, Link(tuple(names[index] for index in places), back))
        return Enclosure(move(sources), radius)

    def addition(self, node: Node) -> Enclosure:
        """Enclose a sum of two values, or of a value and a constant, rounded to float32 once."""
        a, b = (self.given(name) for name in node.inputs)
        shapes = {name: tuple(item.centre.shape[1:]) for name, item in zip(node.inputs, (a, b), strict=True) if name in self.found.values}
        centre, carried = a.centre + b.centre, a.radius + b.radius
        error = self.few * centre.abs() + self.least
        if self.setting is not None:
            error = error + FLOAT32.relative * (centre.abs() + carried) + FLOAT32.absolute
        if self.keep:
            names = tuple(name for name in node.inputs if name in shapes)
            link = Link(
                names,
                lambda g, _: tuple(g.sum_to_size(len(g), *shapes[name]) for name in names),
                bounded=error + self.few * carried,
            )
            self.link(node, link)
        return Enclosure(centre, (carried + error) * (1 + self.few))

    def maximum(self, node: Node) -> Enclosure:
        """Enclose maxima. On the way back ``max(a, b) = a + relu(b - a)`` is a line between its ends, as for ReLU, pair by pair."""
        x: Enclosure = self.given(node.inputs[0])
        low, high = windows_of(node, x.low), windows_of(node, x.high)
        y = self.between(low.amax(-1), high.amax(-1))
        if not self.keep:
            return y
        pairs, shape = tournament(low, high), tuple(x.centre.shape[1:])
        offset = (pairs.weights * windows_of(node, x.centre)).sum(-1).add_(pairs.bounded).sub_(y.centre)
        largest = torch.maximum(low.abs_().masked_fill_(low >= -OUTSIDE, 0), high.abs_().masked_fill_(high >= -OUTSIDE, 0)).amax(-1)
        bounded = largest.mul_(8 * self.few).add_(pairs.bounded).add_(self.least)
        slope = (bounded < y.radius).to(y.centre.dtype)
        bounded = torch.minimum(bounded, y.radius)

        def back(g: Tensor, rows: Tensor | None) -> tuple[Tensor, ...]:
            weights = pairs.weights if rows is None else pairs.weights.index_select(0, rows)
            return (adjoint(lambda source: windows_of(node, source), g.unsqueeze(-1) * weights, shape),)

        self.link(node, Link(node.inputs[:1], back, slope, offset.mul_(slope), bounded))
        return y

    # functions of one number ----------------------------------------------------------------------------------------------------

    def pointwise(self, node: Node) -> Enclosure:
        x: Enclosure = self.given(node.inputs[0])
        low, high = x.low, x.high
        if node.op == "Clip":
            limits = [None if not name else float(self.graph.weights[name].reshape(-1)[0]) for name in (*node.inputs[1:], "", "")[:2]]
            y = self.between(low.clamp(*limits), high.clamp(*limits))
            inside = torch.ones_like(low, dtype=torch.bool)
            inside &= True if limits[0] is None else low >= limits[0]
            inside &= True if limits[1] is None else high <= limits[1]
            return self._sloped(node, x, y, inside.to(low.dtype), torch.zeros_like(low), torch.where(inside, 0.0, y.radius))
        alpha = 0.0 if node.op == "Relu" else float(node.attributes.get("alpha", 0.01))  # type: ignore[arg-type]
        below, above = (functional.leaky_relu(end, alpha) if alpha else end.clamp_min(0) for end in (low, high))
        y = self.between(below, above)
        slack = 0.0 if node.op == "Relu" else self.few + (FLOAT32.relative if self.setting is not None else 0.0)
        largest = torch.maximum(low.abs(), high.abs())
        if slack:
            least = self.least + (FLOAT32.absolute if self.setting is not None else 0.0)
            y.radius = y.radius + slack * largest + least
        # the chord of a convex function is above it by most at zero; without a radius any slope will do
        slope = (above - below).div_((high - low).clamp_min_(self.least))
        gap = torch.where((low < 0) & (high > 0), (below - slope * low).clamp_min_(0), 0.0) if self.keep else slope
        bounded = largest.mul_(self.few + slack).mul_(y.radius > 0).add_(gap, alpha=0.5)
        return self._sloped(node, x, y, slope, gap.mul_(-0.5), bounded)

    def _sloped(self, node: Node, x: Enclosure, y: Enclosure, slope: Tensor, offset: Tensor, bounded: Tensor) -> Enclosure:
        self.link(node, Link(node.inputs[:1], lambda g, _: (g,), slope, offset, bounded))
        return y

    def stored(self, name: str, value: Enclosure) -> Enclosure:
        """Enclose what a value becomes as it is stored: rounding is monotone, so its ends become the ends."""
        store = self.setting.stores.get(name) if self.setting is not None else None
        if store is None:
            return value
        low, high = value.low, value.high
        if store.wraps:
            outside = ((low < store.low) | (high > store.high)).flatten(1).any(1)
            self.found.blame(outside, f"values of layer {store.assigned.layer!r} may wrap around")
        below, above = (torch.from_numpy(np.asarray(way(end.numpy()))).to(low.dtype) for way, end in ((store.down, low), (store.up, high)))
        y = self.between(below, above)
        if self.keep:
            self._keep_store(name, store, value, y)
        return y

    def _keep_store(self, name: str, store: Store, x: Enclosure, y: Enclosure) -> None:
        """Take the rounding as an error of the value, or its result as any number between the ends, whichever says more."""
        centre, most = x.centre, x.centre.abs().add_(x.radius)
        # half a unit of the last place is that of the binade's lower end
        size = (
            (binade(most) * store.roundoff.relative).add_(store.roundoff.absolute)
            if store.binades
            else (most * store.roundoff.relative).add_(store.roundoff.absolute)
        )
        random = self.likely and store.roundoff.drift is not None
        follows = y.radius > (0.0 if random else size)
        if bool(((low := x.low) < store.low).any()) or bool((x.high > store.high).any()):
            follows &= (low >= store.low) & (x.high <= store.high)
        slope = follows.to(centre.dtype)
        link = Link((name,), lambda g, _: (g,), slope, (centre - y.centre).mul_(slope))
        if random:
            link.spread = size * slope
            size = size * (store.roundoff.drift or 0.0)
        link.bounded = y.radius + slope * size.add_(most, alpha=self.few).add_(self.least).sub_(y.radius)
        self.found.links.append((name, link))

    def between(self, low: Tensor, high: Tensor) -> Enclosure:
        """Return the enclosure of an interval, without radius where its ends are equal."""
        centre = (low + high).mul_(0.5)
        return Enclosure(centre, torch.maximum(high - centre, centre - low).mul_(1 + self.few))


def binade(x: Tensor) -> Tensor:
    """Return the largest powers of two that are not above positive numbers; zero, or less than the smallest normal number, gives zero."""
    whole, mask = (torch.int32, 0x7F800000) if x.dtype == torch.float32 else (torch.int64, 0x7FF0000000000000)
    return (x.view(whole) & mask).view(x.dtype)
