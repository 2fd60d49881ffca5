"""What every value of a network can be under a plan: centre and radius, carried from the image to the scores, and the way back.

Every radius is enlarged by more than the rounding errors of its own computation: a sum of n products is off by at most ``gamma(n)`` of the
sum of magnitudes (Higham 2002, section 3.1), whatever the order, and no other way of convolving is used here than sums of products.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from convsmith.graph.network import Graph, Node
from convsmith.interop.torch_operators import OPERATORS, pooled
from convsmith.precision.certificate.roundoff import FLOAT32, SumBound
from convsmith.precision.certificate.setting import AVERAGES, MAXIMA, MOVES, POINTWISE, PRODUCTS, Setting, Store


@dataclass(frozen=True)
class Numbers:
    """What the bounds are computed in. ``few``: four of its rounding errors; ``least``: more than what all its underflows can add up to."""

    dtype: torch.dtype
    unit: float
    least: float

    @property
    def few(self) -> float:
        return 4 * self.unit

    def gamma(self, n: int) -> float:
        """Return the bound of n rounding errors, infinite where they are too many to be bounded so."""
        return (n + 8) * self.unit * 1.02 if (n + 8) * self.unit < 0.02 else math.inf


FLOAT64: Final = Numbers(torch.float64, 2.0**-53, 1e-290)
#: oneDNN on x86 adds products in some order; libraries of other processors may use Winograd's algorithm, which has other errors.
FAST: Final = Numbers(torch.float32, 2.0**-24, 1e-30) if platform.machine() in ("x86_64", "AMD64") else FLOAT64


@dataclass
class Enclosure:
    """Values within ``radius`` of ``centre``."""

    centre: Tensor
    radius: Tensor

    @property
    def low(self) -> Tensor:
        return self.centre - self.radius

    @property
    def high(self) -> Tensor:
        return self.centre + self.radius


@dataclass
class Link:
    """How the deviations of a value from its centre come from those of the node's inputs, for the way back.

    output deviation = slope * (linear function of input deviations) + offset + something within ``bounded``, plus rounding errors: each
    within ``error`` for certain; for a proof in probability within ``error`` counts for nothing and ``spread``, ``steady`` and
    ``compensated`` say how they add up (see ``SumBound``).
    """

    sources: tuple[str, ...]
    back: Callable[[Tensor], tuple[Tensor, ...]]
    slope: Tensor | None = None
    offset: Tensor | None = None
    bounded: Tensor | None = None
    spread: Tensor | None = None
    compensated: Tensor | None = None


@dataclass
class Walk:
    """One pass over a batch: every value, what went wrong for which image, and the links when they are kept."""

    values: dict[str, Enclosure] = field(default_factory=dict)
    links: list[tuple[str, Link]] = field(default_factory=list)
    problems: dict[int, str] = field(default_factory=dict)

    def blame(self, images: Tensor, reason: str) -> None:
        """Note for the images of a mask why there is no proof; the first reason stays."""
        for index in images.nonzero().reshape(-1).tolist():
            self.problems.setdefault(index, reason)


Bounds = Mapping[str, SumBound]
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
) -> Walk:
    """Carry a batch of images through the network.

    ``setting`` None: exact arithmetic, so that radii hold nothing but the errors of ``numbers``. ``bounds``: of the sums of each layer.
    ``keep``: keep the links; ``likely``: rounding errors are mean-zero in them.
    """
    found = Walk()
    step = _Step(graph, setting, bounds, found, keep, likely, numbers)
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
        self, graph: Graph, setting: Setting | None, bounds: Bounds, found: Walk, keep: bool, likely: bool, numbers: Numbers
    ) -> None:
        self.graph, self.setting, self.bounds, self.found, self.keep, self.likely = graph, setting, bounds, found, keep, likely
        self.numbers, self.few, self.least = numbers, numbers.few, numbers.least

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
        """Enclose what a layer of products or averages gives: machine sums around the float64 sum of the stored inputs."""
        x: Enclosure = self.given(node.inputs[0])
        layer = Layer(self.graph, node, self.numbers.dtype)
        with torch.set_grad_enabled(self.keep):
            source = x.centre.detach().requires_grad_(self.keep)
            z = layer(source)
        centre, size_x = z.detach(), source.detach().abs()
        terms = terms_of(self.graph, node, size_x)
        own, bound = self.numbers.gamma(terms), self.bounds.get(node.name, NOTHING)
        if not math.isfinite(bound.relative + bound.absolute + bound.reach + own):
            self.found.blame(torch.ones(len(centre), dtype=torch.bool), f"sums of layer {node.name!r} have no bound: too many terms for so few bits")
            return Enclosure(centre, torch.full_like(centre, torch.inf))
        factor = (bound.relative + own) * (1 + 2 * own)
        if self.keep:
            size = layer.size(size_x + x.radius)
            carried = layer.spread(x.radius)
            radius = factor * size + bound.absolute + carried
        else:
            # one pass instead of two: errors of the sums and radii of the inputs together
            radius = layer.spread(factor * size_x + (1 + factor) * x.radius)
            radius = radius + factor * layer.bias_size
            size = radius / factor
            radius = radius + bound.absolute
        radius = radius * (1 + own) + self.few * centre.abs() + self.least
        self._check_reach(node, layer, bound, size, size_x + x.radius, own)
        if self.keep:
            self._keep_products(node, source, z, bound, size, own, radius)
        return Enclosure(centre, radius)

    def _check_reach(self, node: Node, layer: Layer, bound: SumBound, size: Tensor, most: Tensor, own: float) -> None:
        if self.setting is None:
            return
        limit = self.setting.sums[node.name].limit
        count = 1 if node.op in PRODUCTS else terms_of(self.graph, node, most)

        def beyond(size: Tensor) -> Tensor:
            return ~(bound.reach * count * size.flatten(1) * (1 + 2 * own) + bound.reach_absolute <= limit).all(1)

        outside = beyond(size)
        if outside.any() and not self.keep:
            outside = beyond(layer.size(most))
        self.found.blame(outside, f"sums may overflow in layer {node.name!r}")

    def _keep_products(
        self, node: Node, source: Tensor, z: Tensor, bound: SumBound, size: Tensor, own: float, radius: Tensor
    ) -> None:
        # the way back has rounding errors of its own, which meet deviations of at most the radius
        steady = own * size + self.numbers.gamma(terms_back(self.graph, node)) * radius + self.few * z.detach().abs() + self.least
        link = Link(node.inputs[:1], lambda g: torch.autograd.grad(z, source, g, retain_graph=True))
        if self.likely:
            link.bounded = steady + bound.steady * size + bound.steady_absolute
            link.spread = bound.spread * size + bound.spread_absolute
            link.compensated = bound.compensated * size + bound.compensated_absolute
        else:
            link.bounded = steady + bound.relative * size + bound.absolute
        self.link(node, link)

    # values that are moved, added, chosen ------------------------------------------------------------------------------------

    def moves(self, node: Node) -> Enclosure:
        inputs = [self.given(name) if name else None for name in node.inputs]
        sources = [item.centre.requires_grad_(self.keep) if isinstance(item, Enclosure) else item for item in inputs]
        operator = OPERATORS[node.op]
        if node.op == "Concat" or node.op == "Transpose":
            names = node.inputs
        else:
            names = node.inputs[:1]
            sources[1:] = [item.numpy() if isinstance(item, Tensor) else item for item in sources[1:]]
        with torch.set_grad_enabled(self.keep):
            y = operator(sources, node.attributes)
        radius = operator([item.radius if isinstance(item, Enclosure) else item for item in inputs], node.attributes)
        places = [index for index, name in enumerate(names) if name in self.found.values]
        if self.keep:
            wanted = [sources[index] for index in places]
            back = lambda g: torch.autograd.grad(y, wanted, g, retain_graph=True)  # noqa: E731
            self.link(node, Link(tuple(names[index] for index in places), back))
        return Enclosure(y.detach(), radius)

    def addition(self, node: Node) -> Enclosure:
        """Enclose a sum of two values, or of a value and a constant, rounded to float32 once."""
        a, b = (self.given(name) for name in node.inputs)
        places = [name in self.found.values for name in node.inputs]
        sources = [item.centre.detach().requires_grad_(self.keep and place) for item, place in zip((a, b), places, strict=True)]
        with torch.set_grad_enabled(self.keep):
            y = sources[0] + sources[1]
        centre, carried = y.detach(), a.radius + b.radius
        error = self.few * centre.abs() + self.least
        if self.setting is not None:
            error = error + FLOAT32.relative * (centre.abs() + carried) + FLOAT32.absolute
        if self.keep:
            wanted = [source for source, place in zip(sources, places, strict=True) if place]
            link = Link(
                tuple(name for name, place in zip(node.inputs, places, strict=True) if place),
                lambda g: torch.autograd.grad(y, wanted, g, retain_graph=True),
                bounded=error + self.few * carried,
            )
            self.link(node, link)
        return Enclosure(centre, (carried + error) * (1 + self.few))

    def maximum(self, node: Node) -> Enclosure:
        """Enclose maxima; where one input is the largest whatever happens, the output is that input."""
        x: Enclosure = self.given(node.inputs[0])
        with torch.set_grad_enabled(self.keep):
            low = x.low.detach().requires_grad_(self.keep)
            ends = windows_of(node, low)
        most = windows_of(node, x.high.detach())
        y = self.between(ends.detach().amax(-1), most.amax(-1))
        if self.keep:
            # the input with the largest lower end is the maximum for certain where no other reaches above that end
            chosen = ends.detach().argmax(-1, keepdim=True)
            certain = most.scatter(-1, chosen, -torch.inf).amax(-1) <= ends.detach().amax(-1)
            with torch.enable_grad():
                taken = ends.gather(-1, chosen).squeeze(-1)
            bounded = torch.where(certain, self.few * (y.centre.abs() + y.radius) + self.least, y.radius)
            back = lambda g: torch.autograd.grad(taken, low, g, retain_graph=True)  # noqa: E731
            self.link(node, Link(node.inputs[:1], back, certain.to(low.dtype), bounded=bounded))
        return y

    # functions of one number ----------------------------------------------------------------------------------------------------

    def pointwise(self, node: Node) -> Enclosure:
        x: Enclosure = self.given(node.inputs[0])
        low, high = x.low.detach(), x.high.detach()
        if node.op == "Clip":
            limits = [None if not name else float(self.graph.weights[name].reshape(-1)[0]) for name in (*node.inputs[1:], "", "")[:2]]
            y = self.between(low.clamp(*limits), high.clamp(*limits))
            inside = torch.ones_like(low, dtype=torch.bool)
            inside &= True if limits[0] is None else low >= limits[0]
            inside &= True if limits[1] is None else high <= limits[1]
            return self._sloped(node, x, y, inside.to(low.dtype), torch.zeros_like(low), torch.where(inside, 0.0, y.radius))
        alpha = 0.0 if node.op == "Relu" else float(node.attributes.get("alpha", 0.01))  # type: ignore[arg-type]
        below, above = torch.where(low > 0, low, alpha * low), torch.where(high > 0, high, alpha * high)
        rounding = 0.0 if node.op == "Relu" else self.few + (FLOAT32.relative if self.setting is not None else 0.0)
        y = self.between(below, above)
        slack = rounding * torch.maximum(below.abs(), above.abs()) + (self.least if rounding else 0.0)
        if rounding and self.setting is not None:
            slack = slack + FLOAT32.absolute
        # the chord of a convex function; it is above the function by most at zero
        width = (high - low).clamp_min(self.least)
        unstable = (low < 0) & (high > 0)
        slope = torch.where(unstable, (above - below) / width, torch.where(low >= 0, 1.0, alpha))
        gap = torch.where(unstable, (below - slope * low).clamp_min(0.0), 0.0)
        bounded = gap / 2 + unstable * self.few * torch.maximum(low.abs(), high.abs()) + slack
        flat = unstable & (y.radius <= bounded)
        slope, gap, bounded = torch.where(flat, 0.0, slope), torch.where(flat, 0.0, gap), torch.where(flat, y.radius + slack, bounded)
        y = Enclosure(torch.where(unstable, y.centre, torch.where(low >= 0, x.centre.detach(), alpha * x.centre.detach())), y.radius)
        y.radius = torch.where(unstable, y.radius, torch.where(low >= 0, x.radius, alpha * x.radius)) + slack
        return self._sloped(node, x, y, slope, -gap / 2, bounded)

    def _sloped(self, node: Node, x: Enclosure, y: Enclosure, slope: Tensor, offset: Tensor, bounded: Tensor) -> Enclosure:
        self.link(node, Link(node.inputs[:1], lambda g: (g,), slope, offset, bounded))
        return y

    def stored(self, name: str, value: Enclosure) -> Enclosure:
        """Enclose what a value becomes as it is stored: rounding is monotone, so its ends become the ends."""
        store = self.setting.stores.get(name) if self.setting is not None else None
        if store is None:
            return value
        low, high = value.low.detach(), value.high.detach()
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
        centre = x.centre.detach()
        size = store.roundoff.relative * (centre.abs() + x.radius) + store.roundoff.absolute
        inside = (x.low >= store.low) & (x.high <= store.high)
        shift = centre - y.centre
        random = self.likely and store.roundoff.drift is not None
        follows = inside & (y.radius > (0.0 if random else size))
        slope, small = follows.to(centre.dtype), self.few * (centre.abs() + x.radius) + self.least
        link = Link((name,), lambda g: (g,), slope, torch.where(follows, shift, 0.0))
        if random:
            link.spread = torch.where(follows, size, 0.0)
            drift = (store.roundoff.drift or 0.0) * size
            link.bounded = torch.where(follows, drift + small, y.radius)
        else:
            link.bounded = torch.where(follows, size + small, y.radius)
        self.found.links.append((name, link))

    def between(self, low: Tensor, high: Tensor) -> Enclosure:
        """Return the enclosure of an interval, without radius where its ends are equal."""
        centre = low + (high - low) / 2
        radius = torch.maximum(high - centre, centre - low)
        return Enclosure(centre, torch.where(high == low, 0.0, radius * (1 + self.few) + self.few * centre.abs() + self.least))


def windows_of(node: Node, x: Tensor) -> Tensor:
    """Return the numbers that each maximum is taken of along a last axis; padding is minus infinity."""
    if node.op == "GlobalMaxPool":
        return x.flatten(2).reshape(*x.shape[:2], 1, 1, -1)
    windows, amounts = pooled(x, node.attributes)
    reach = [d * (k - 1) + 1 for d, k in zip(windows.dilations, windows.kernel, strict=True)]
    padded = F.pad(x, amounts, value=-torch.inf)
    found = padded.unfold(2, reach[0], windows.strides[0]).unfold(3, reach[1], windows.strides[1])
    found = found[:, :, : windows.output[0], : windows.output[1], :: windows.dilations[0], :: windows.dilations[1]]
    return found.flatten(-2)


class Layer:
    """The linear function of one node of products or averages, and its magnitudes."""

    def __init__(self, graph: Graph, node: Node, dtype: torch.dtype) -> None:
        self._operator, self._attributes = OPERATORS[node.op], node.attributes
        given = [graph.weights[name] if name else None for name in node.inputs[1:]]
        self._weights: list[Any] = [
            torch.from_numpy(np.array(w)).to(dtype) if w is not None and w.dtype.kind == "f" else w for w in given
        ]
        self._sizes = [item.abs() if isinstance(item, Tensor) else item for item in self._weights]
        self._pure = list(self._sizes)
        self.bias_size: Tensor = torch.zeros(())
        if node.op in PRODUCTS and len(self._sizes) > 1 and self._sizes[1] is not None:
            self._pure[1] = None
            self.bias_size = self._sizes[1].reshape(-1, 1, 1) if node.op == "Conv" else self._sizes[1]

    def __call__(self, x: Tensor) -> Tensor:
        return self._operator((x, *self._weights), self._attributes)  # type: ignore[no-any-return]

    def size(self, x: Tensor) -> Tensor:
        """Return the sums of magnitudes of products and bias, for magnitudes ``x``."""
        return self._operator((x, *self._sizes), self._attributes)  # type: ignore[no-any-return]

    def spread(self, x: Tensor) -> Tensor:
        """Return the same without the bias."""
        return self._operator((x, *self._pure), self._attributes)  # type: ignore[no-any-return]


def constant(array: Any, dtype: torch.dtype) -> Enclosure:
    """Return a weight as an enclosure without radius."""
    centre = torch.from_numpy(np.array(array)).to(dtype)
    return Enclosure(centre, torch.zeros_like(centre))


def terms_of(graph: Graph, node: Node, x: Tensor) -> int:
    """Return how many products one output of a node sums up."""
    match node.op:
        case "Conv":
            return int(np.prod(graph.weights[node.inputs[1]].shape[1:]))
        case "Gemm" | "MatMul":
            w = graph.weights[node.inputs[1]]
            return int(w.shape[1] if node.attributes.get("transB", 0) else w.shape[0])
        case "AveragePool":
            return int(np.prod(node.attributes["kernel_shape"]))  # type: ignore[arg-type]
        case "GlobalAveragePool":
            return int(np.prod(x.shape[2:]))
        case _:
            axes = graph.weights[node.inputs[1]].reshape(-1).tolist() if len(node.inputs) > 1 and node.inputs[1] else range(x.dim())
            return int(np.prod([x.shape[axis] for axis in axes]))


def terms_back(graph: Graph, node: Node) -> int:
    """Return how many products one input of a node takes part in, at most."""
    if node.op not in PRODUCTS:
        return 4096
    w = graph.weights[node.inputs[1]]
    return int(w.size // w.shape[1]) if node.op == "Conv" else int(max(w.shape))
