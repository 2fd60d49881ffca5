"""Layers whose inputs are signs become operators on packed bits.

A sign is ``Where(Less(x, threshold), -1, 1)``, with thresholds of constants and perhaps a multiplication by a constant before. Of a layer
that reads nothing but signs, with weights of one size in each output channel (or zeros), the sums are whole numbers: what follows it up to
the next sign is one comparison of integers. Signs stay packed from there to the next layer; who needs their numbers gets them unpacked.

References: Courbariaux et al. 2016, arXiv 1602.02830, section 4; Umuroglu et al. 2017, arXiv 1612.07119, section 4.2.2 (thresholds).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import numpy as np

from convsmith.compiler.passes.padding import constant_padding
from convsmith.errors import UnsupportedError, UsageError
from convsmith.graph import Graph, Node, Uses, prune
from convsmith.graph.shapes import infer_shapes
from convsmith.kernels.binary_convolution import fold_thresholds

Array = np.ndarray[Any, Any]

GEOMETRY: Final = ("strides", "dilations", "pads", "group")

USUAL: Final = 224
"""Pixels of a side that a graph leaves free, to find out how many channels values have."""


def fold_signs(graph: Graph) -> Graph:
    """Return the graph with ``PackSigns``, ``BinaryConv``, ``SignPool`` and ``UnpackSigns``; one without signs is returned unchanged.

    Their meaning is that of ``kernels.sign_operators``.
    """
    folding = SignFolding(graph)
    return prune(folding.run()) if folding.signs else graph


@dataclass(frozen=True)
class Sign:
    """-1 where ``factor * source < threshold``, else 1. ``nodes``: what lies between source and result, the last excepted."""

    node: Node
    source: str
    factor: Array
    threshold: Array
    nodes: tuple[str, ...]


def sign_of(graph: Graph, uses: Uses, node: Node) -> Sign | None:
    """Return what a ``Where`` is the sign of, or None for any other node."""
    if node.op != "Where" or not _is(graph, node.inputs[1], -1) or not _is(graph, node.inputs[2], 1):
        return None
    less = uses.producers.get(node.inputs[0])
    if less is None or less.op != "Less" or less.inputs[1] not in graph.weights:
        return None
    source, factor, inside = less.inputs[0], np.ones((), np.float32), [less.name]
    product = uses.producers.get(source)
    if product is not None and product.op == "Mul" and product.inputs[1] in graph.weights and uses.alone(source):
        source, factor = product.inputs[0], graph.weights[product.inputs[1]]
        inside.append(product.name)
    return Sign(node, source, factor, graph.weights[less.inputs[1]], tuple(inside))


def _is(graph: Graph, name: str, number: float) -> bool:
    return name in graph.weights and bool(np.all(graph.weights[name] == number))


@dataclass(frozen=True)
class Packed:
    """Packed signs: the value that holds them, their channels, whether images are seen as rows of numbers, and a border of ones around
    them that their layers make: rows and columns before and after."""

    name: str
    channels: int
    flat: bool = False
    ones: tuple[int, ...] = ()


@dataclass(frozen=True)
class Layer:
    """A layer on signs: the sums of ``bits`` times ``scale`` plus ``shift``."""

    node: Node
    source: Packed
    w_kcrs: Array
    scale_k: Array
    shift_k: Array

    @property
    def most(self) -> int:
        return int(np.prod(self.w_kcrs.shape[1:]))


class SignFolding:
    """One walk over a graph; ``packed`` values exist as bits, and as numbers only where somebody needs these."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.uses = graph, Uses(graph)
        self.signs = {node.name: sign for node in graph if (sign := sign_of(graph, self.uses, node)) is not None}
        self.weights: dict[str, Array] = dict(graph.weights)
        self.nodes: list[Node] = []
        self.packed: dict[str, Packed] = {}
        self.unpacked: set[str] = set()
        self.chains = {name: self._chain(sign) for name, sign in self.signs.items()}
        self.heads = {chain[-1].name: name for name, chain in self.chains.items() if chain}
        self.layers: dict[str, Layer] = {}
        self.inside: set[str] = set()

    @cached_property
    def channels(self) -> dict[str, int]:
        """The channels of images and of rows, where a packing needs them."""
        return _channels(self.graph)

    def run(self) -> Graph:
        for node in self.graph:
            if node.name in self.signs:
                self._sign(self.signs[node.name])
            elif node.name not in self.inside and not self._moved(node) and not self._layer(node):
                self._emit(node)
        for value in self.graph.outputs:
            self._numbers(value.name)
        return replace(self.graph, nodes=tuple(self.nodes), weights=self.weights)

    def _chain(self, sign: Sign) -> tuple[Node, ...]:
        """Return the poolings before a sign and the layer before these, where nothing else reads what is between."""
        found, source = list[Node](), sign.source
        while (node := self.uses.producers.get(source)) is not None and self.uses.alone(source):
            found.append(node)
            if node.op in ("Conv", "Gemm"):
                return tuple(found)
            if node.op != "MaxPool" or len(node.outputs) > 1:
                break
            source = node.inputs[0]
        return ()

    def _sign(self, sign: Sign) -> None:
        chain, output = self.chains[sign.node.name], sign.node.outputs[0]
        layer = self.layers.get(chain[-1].name) if chain else None
        if layer is None:
            self._pack(sign)
            return
        # what is no longer computed in between is not read either, and goes when the graph is pruned
        k = len(layer.w_kcrs)
        factor, threshold = (np.broadcast_to(v.reshape(-1), (k,)).astype(np.float32) for v in (sign.factor, sign.threshold))
        scale, shift = layer.scale_k, layer.shift_k

        def signed(sums: Array) -> Array:
            return np.where((sums * scale + shift) * factor < threshold, np.float32(-1), np.float32(1))

        found = fold_thresholds(signed, layer.most, k)
        name, pools = f"{output}.signs", chain[:-1]
        names = [name] if not pools else [f"{name}.{index}" for index in range(len(pools))] + [name]
        self._emit(self._convolution(layer, names[0], "signs", found.direction_k, found.threshold_k))
        for index, pool in enumerate(reversed(pools)):
            mask = self._constant(f"{pool.name}.turned", (found.direction_k < 0).astype(np.uint8))
            self._emit(Node(pool.name, "SignPool", (names[index], mask), (names[index + 1],), pool.attributes))
        self.packed[output] = Packed(name, k)

    def _pack(self, sign: Sign) -> None:
        """Emit the packing of numbers; the sign of ``factor * x - threshold`` is exact, since differences near 0 are."""
        node, source, output = sign.node, self._unclipped(sign), sign.node.outputs[0]
        channels = self.channels.get(source)
        if channels is None:
            self._emit(node)
            return
        if np.any(sign.factor != 1):
            product = Node(
                f"{node.name}.factor", "Mul", (source, self._constant(f"{node.name}.factor", sign.factor)), (f"{output}.turned",)
            )
            self._emit(product)
            source = product.outputs[0]
        if np.any(sign.threshold != 0):
            moved = self._constant(f"{node.name}.threshold", sign.threshold)
            difference = Node(f"{node.name}.threshold", "Sub", (source, moved), (f"{output}.moved",))
            self._emit(difference)
            source = difference.outputs[0]
        name = f"{output}.signs"
        self._emit(Node(node.name, "PackSigns", (source,), (name,)))
        self.packed[output] = Packed(name, channels)

    def _unclipped(self, sign: Sign) -> str:
        """Return what a limit before a sign limits, where that changes no sign, else the source itself."""
        clip = self.uses.producers.get(sign.source)
        if clip is None or clip.op != "Clip" or np.any(sign.factor != 1):
            return sign.source
        low, high = (self.graph.weights.get(name) if name else None for name in (*clip.inputs[1:3], "", "")[:2])
        same = low is not None and np.all(low < sign.threshold) and (high is None or np.all(sign.threshold <= high))
        return clip.inputs[0] if same else sign.source

    def _moved(self, node: Node) -> bool:
        """Emit a pooling of signs, or see images of signs as rows; tell whether the node is one of these."""
        source = self.packed.get(node.inputs[0]) if node.inputs else None
        if source is None:
            return False
        if node.op == "MaxPool" and len(node.outputs) == 1:
            name = f"{node.outputs[0]}.signs"
            mask = self._constant(f"{node.name}.turned", np.zeros(source.channels, np.uint8))
            self._emit(Node(node.name, "SignPool", (source.name, mask), (name,), node.attributes))
            self.packed[node.outputs[0]] = Packed(name, source.channels)
            return True
        if node.op == "Pad":
            return self._bordered(node, source)
        flat = node.op == "Flatten" and node.attributes.get("axis", 1) == 1
        flat = flat and node.outputs[0] not in self.uses.outputs
        readers = self.uses.readers(node.outputs[0]) if flat else ()
        if readers and all(self._weights(reader, replace(source, flat=True)) is not None for reader in readers):
            self.packed[node.outputs[0]] = replace(source, flat=True)
            return True
        return False

    def _bordered(self, node: Node, source: Packed) -> bool:
        """See a border of ones around signs as one that the layers on them make, where nobody else reads it; tell whether it is one."""
        amounts = constant_padding(self.graph, node, 1.0)
        if amounts is None or source.ones or source.flat or node.outputs[0] in self.uses.outputs:
            return False
        bordered = replace(source, ones=amounts)
        readers = self.uses.readers(node.outputs[0])
        if not readers or any(self._weights(reader, bordered) is None for reader in readers):
            return False
        self.packed[node.outputs[0]] = bordered
        return True

    def _weights(self, node: Node, source: Packed) -> Array | None:
        """Return the weights of a layer on signs as KCRS, or None for any other node."""
        w = self.graph.weights.get(node.inputs[1]) if node.op in ("Conv", "Gemm") else None
        if w is None or any(name and name not in self.graph.weights for name in node.inputs[1:]):
            return None
        a = node.attributes
        if source.ones and (node.op == "Gemm" or any(a.get("pads", ()))):  # type: ignore[arg-type]
            return None
        if node.op == "Gemm":
            plain = a.get("transB", 0) and not a.get("transA", 0) and a.get("alpha", 1) == 1 and a.get("beta", 1) == 1
            if not plain or w.shape[1] % source.channels:
                return None
            w = w.reshape(len(w), source.channels, 1, -1)
        elif w.ndim != 4 or source.flat or a.get("auto_pad", "NOTSET") != "NOTSET" or (a.get("group", 1) != 1 and w.shape[1] % 64):
            return None
        positive, negative = (_largest(part).reshape(-1, 1, 1, 1) for part in (w, -w))
        return w if np.all((w == 0) | (w == positive) | (w == -negative)) else None

    def _layer(self, node: Node) -> bool:
        """Take a layer on signs: emit it with float32 results, unless a sign that follows will; tell whether it is one."""
        source = self.packed.get(node.inputs[0]) if node.inputs else None
        w = self._weights(node, source) if source is not None else None
        if source is None or w is None:
            return False
        scale = np.abs(w).reshape(len(w), -1).max(axis=1).astype(np.float32)
        bias = self.graph.weights[node.inputs[2]] if len(node.inputs) > 2 and node.inputs[2] else np.zeros(len(w), np.float32)
        layer = Layer(node, source, w, scale, np.broadcast_to(bias.reshape(-1), (len(w),)).astype(np.float32))
        positive, negative = _largest(w), _largest(-w)
        if np.any((positive != negative) & (positive > 0) & (negative > 0)):
            self._two_sizes(layer, positive, negative)
            return True
        if node.name not in self.heads:
            self._emit(self._convolution(layer, node.outputs[0], "float32", layer.scale_k, layer.shift_k))
            return True
        self.layers[node.name] = layer
        sign = self.heads[node.name]
        self.inside |= {inner.name for inner in self.chains[sign]} | set(self.signs[sign].nodes)
        return True

    def _two_sizes(self, layer: Layer, positive: Array, negative: Array) -> None:
        """Emit a layer whose positive weights have another size than its negative ones, as TTQ learns them.

        With p and n these are ``(p + n) / 2`` times the signs, zeros among them, plus ``(p - n) / 2`` times their squares.
        """
        output, lone = layer.node.outputs[0], np.maximum(positive, negative)
        both = (positive > 0) & (negative > 0)
        half_sum, half_difference = np.where(both, (positive + negative) / 2, lone), np.where(both, (positive - negative) / 2, 0)
        parts = [f"{output}.signs_part", f"{output}.squares_part"]
        signs = np.sign(layer.w_kcrs)
        self._emit(self._convolution(replace(layer, w_kcrs=signs), parts[0], "float32", half_sum.astype(np.float32), layer.shift_k))
        squares = replace(layer, node=replace(layer.node, name=f"{layer.node.name}.squares"), w_kcrs=np.abs(signs), scale_k=half_difference)
        none = np.zeros_like(layer.shift_k)
        self._emit(self._convolution(squares, parts[1], "float32", half_difference.astype(np.float32), none))
        self._emit(Node(f"{layer.node.name}.sum", "Add", tuple(parts), (output,)))

    def _convolution(self, layer: Layer, output: str, result: str, first: Array, second: Array) -> Node:
        node, w_krsc = layer.node, layer.w_kcrs.transpose(0, 2, 3, 1)
        dead = (layer.scale_k == 0).reshape(-1, 1, 1, 1)
        planes = [w_krsc < 0]
        if np.any((w_krsc == 0) & ~dead):
            planes.append((w_krsc != 0) | dead)
        bits = np.stack([np.packbits(plane, axis=-1, bitorder="little") for plane in planes], axis=-1)
        own = [self._constant(f"{node.name}.{what}", array) for what, array in (("bits", bits), ("first", first), ("second", second))]
        attributes = {key: node.attributes[key] for key in GEOMETRY if key in node.attributes and node.op == "Conv"}
        attributes |= {"kernel_shape": layer.w_kcrs.shape[2:], "channels": layer.w_kcrs.shape[1], "result": result}
        attributes |= {"rows": int(node.op == "Gemm")}
        if layer.source.ones:
            attributes |= {"pads": layer.source.ones, "border": "one"}
        return Node(node.name, "BinaryConv", (layer.source.name, *own), (output,), attributes)

    def _numbers(self, name: str) -> None:
        """Make sure that somebody writes the numbers of a value."""
        packed = self.packed.get(name)
        if packed is not None and name not in self.unpacked:
            self.unpacked.add(name)
            self.nodes.append(Node(f"{name}.numbers", "UnpackSigns", (packed.name,), (name,), {"channels": packed.channels}))

    def _emit(self, node: Node) -> None:
        for name in node.inputs:
            self._numbers(name)
        self.nodes.append(node)

    def _constant(self, name: str, array: Array) -> str:
        while name in self.weights:
            name += "_"
        self.weights[name] = np.ascontiguousarray(array)
        return name


def _largest(w: Array) -> Array:
    """Return the largest weight of each output channel, 0 where none is positive."""
    return np.asarray(np.maximum(w.reshape(len(w), -1).max(axis=1), 0))


def _channels(graph: Graph) -> dict[str, int]:
    """Return the channels of images and of rows; they do not depend on the sizes that a graph leaves free."""
    sizes = {
        value.name: tuple(1 if n == -1 and axis == 0 else USUAL if n == -1 else n for axis, n in enumerate(value.shape))
        for value in graph.inputs
    }
    try:
        shapes = infer_shapes(graph, 1, sizes)
    except (UsageError, UnsupportedError):
        return {}
    return {name: shape[1] for name, shape in shapes.items() if len(shape) in (2, 4)}
