"""Layers between DequantizeLinear and QuantizeLinear become operators on 8-bit codes.

Codes are uint8 from here on: int8 ones are moved by 128, zero point and all, which changes no value. What a layer gives is then the code
that ONNX Runtime's integer kernels give; where a layer has no integer form, its operands are dequantised and it stays in float32.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from convsmith.compiler.passes.integer_layers import TABLED, Chain, Codes, Weights, integer_layer, scale_and_zero, table_node
from convsmith.errors import UnsupportedError
from convsmith.graph import Graph, Node, Uses, fold_constants, prune

Array = np.ndarray[Any, Any]

MOVED: Final = frozenset({"MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Split", "DepthToSpace", "Expand"})
"""Operators that only choose and move values, and so take codes as they are."""


def fold_codes(graph: Graph) -> Graph:
    """Return the graph with integer operators; one without QuantizeLinear and DequantizeLinear is returned unchanged."""
    if not any(node.op in ("QuantizeLinear", "DequantizeLinear") for node in graph):
        return graph
    return fold_constants(prune(Folding(graph).run()), codes=True)


@dataclass(frozen=True)
class Known:
    """What is known of a float32 value: the codes that it is made of, or constant codes of weights."""

    codes: Codes | None = None
    weights: Weights | None = None


class Folding:
    """One walk over a graph; ``known`` values are made of codes, and are dequantised only where somebody needs their numbers."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.known: dict[str, Known] = {}
        self.stored: dict[str, Codes] = {}  # values that are codes
        self.weights: dict[str, Array] = dict(graph.weights)
        self.nodes: list[Node] = []
        self.written: set[str] = set()
        self.uses = Uses(graph)

    def run(self) -> Graph:
        taken = self._chains()
        inside = {node.name for chain in taken.values() for node in chain.nodes}
        for node in self.graph:
            if node.op == "QuantizeLinear":
                self._quantise(node, taken.get(node.name))
            elif node.op == "DequantizeLinear":
                self._dequantise(node)
            elif node.name not in inside and not self._moved(node):
                made = integer_layer(Chain((node,), node.outputs[0]), None, self.known, self)
                self._emit(made or node, numbers=made is None)
        for value in self.graph.outputs:
            self.numbers(value.name)
            if value.name in self.stored:
                raise UnsupportedError(
                    f"output {value.name!r} is made of codes; the engine returns float32: end the graph with DequantizeLinear"
                )
        return dataclasses.replace(self.graph, nodes=tuple(self.nodes), weights=self.weights)

    def _chains(self) -> dict[str, Chain]:
        """Return, for each QuantizeLinear, the layer before it and what follows the layer, where nothing else reads these."""
        found = {}
        for quantise in self.graph:
            source, nodes = quantise.inputs[0], list[Node]()
            while quantise.op == "QuantizeLinear" and (node := self.uses.producers.get(source)) is not None and self.uses.alone(source):
                if node.op in ("QuantizeLinear", "DequantizeLinear"):
                    break
                nodes.insert(0, node)
                if node.op not in TABLED:
                    break
                source = node.inputs[0]
            if nodes:
                found[quantise.name] = Chain(tuple(nodes), quantise.inputs[0])
        return found

    def _quantise(self, node: Node, chain: Chain | None) -> None:
        scale, zero = scale_and_zero(self.weights, node)
        target = Codes(node.outputs[0], scale, zero)
        self.stored[target.name] = target
        source = self.known.get(node.inputs[0])
        if chain is not None:
            made = integer_layer(chain, target, self.known, self)
            if made is None:
                made = self._moved_chain(chain, target)
            if made is not None:
                self._emit(made, numbers=False)
                return
            for inner in chain.nodes:
                if not self._moved(inner):
                    # the layer without what follows it may still have an integer form
                    alone = integer_layer(Chain((inner,), inner.outputs[0]), None, self.known, self)
                    self._emit(alone or inner, numbers=alone is None)
            source = self.known.get(node.inputs[0])
        if source is not None and source.codes is not None:
            self._emit(table_node(node.name, source.codes, target, (), self), numbers=False)
            return
        inputs = (node.inputs[0], self.constant(f"{target.name}.scale", scale), self.constant(f"{target.name}.zero", np.uint8(zero)))
        self._emit(Node(node.name, "QuantizeLinear", inputs, node.outputs), numbers=True)

    def _dequantise(self, node: Node) -> None:
        code = node.inputs[0]
        if code in self.stored:
            scale, zero = scale_and_zero(self.weights, node)
            self.known[node.outputs[0]] = Known(codes=Codes(code, scale, zero))
        elif code in self.weights:
            self.known[node.outputs[0]] = Known(weights=Weights(node, self.weights))
        else:
            raise UnsupportedError(f"node {node.name!r} dequantises {code!r}, which no QuantizeLinear of the graph made")

    def _moved(self, node: Node) -> bool:
        """Emit a node that moves codes of one or several values alike; tell whether it is one."""
        names = node.inputs if node.op == "Concat" else node.inputs[:1]
        codes = [self.known[name].codes for name in names if name in self.known]
        first = codes[0] if codes and len(codes) == len(names) else None
        if (node.op not in MOVED and node.op not in ("Concat", "Pad")) or first is None or any(c is None for c in codes):
            return False
        if node.op == "Pad" and (node := self._padding(node, first)) is None:  # type: ignore[assignment]
            return False
        if any(c is not None and (c.scale, c.zero) != (first.scale, first.zero) for c in codes):
            return False
        outputs = tuple(self.fresh(f"{name}.codes") for name in node.outputs)
        inputs = (*(c.name for c in codes if c is not None), *node.inputs[len(names) :])
        self._emit(dataclasses.replace(node, inputs=inputs, outputs=outputs), numbers=False)
        for name, code in zip(node.outputs, outputs, strict=True):
            self.stored[code] = Codes(code, first.scale, first.zero)
            self.known[name] = Known(codes=self.stored[code])
        return True

    def _padding(self, node: Node, codes: Codes) -> Node | None:
        """Return a padding by zeros as one by their code; None for one by other numbers."""
        value = node.inputs[2] if len(node.inputs) > 2 else ""
        if node.attributes.get("mode", "constant") != "constant":
            return node
        if value and (value not in self.weights or self.weights[value].any()):
            return None
        code = self.constant(f"{node.name}.zero", np.uint8(codes.zero))
        return dataclasses.replace(node, inputs=(*node.inputs[:2], code, *node.inputs[3:]))

    def _moved_chain(self, chain: Chain, target: Codes) -> Node | None:
        """Return a concatenation of codes, each brought to the target's scale first; None for anything else."""
        node = chain.nodes[0]
        codes = [self.known[name].codes if name in self.known else None for name in node.inputs]
        if node.op != "Concat" or len(chain.nodes) > 1 or any(c is None for c in codes):
            return None
        names = []
        for index, code in enumerate(codes):
            assert code is not None
            if (code.scale, code.zero) != (target.scale, target.zero):
                moved = Codes(self.fresh(f"{target.name}.{index}"), target.scale, target.zero)
                self._emit(table_node(f"{node.name}.{index}", code, moved, (), self), numbers=False)
                code = moved
            names.append(code.name)
        return Node(node.name, "Concat", tuple(names), (target.name,), node.attributes)

    def numbers(self, name: str) -> None:
        """Make sure that somebody writes the float32 numbers of a value."""
        known = self.known.get(name)
        if known is None or name in self.written:
            return
        self.written.add(name)
        if known.weights is not None:
            self.weights[name] = known.weights.numbers()
            return
        assert known.codes is not None
        scale, zero = known.codes.scale, np.uint8(known.codes.zero)
        inputs = known.codes.name, self.constant(f"{name}.scale", scale), self.constant(f"{name}.zero", zero)
        self.nodes.append(Node(self.fresh_node(f"{name}.numbers"), "DequantizeLinear", inputs, (name,)))

    def constant(self, name: str, value: Any) -> str:
        """Add a constant and return its name."""
        name = self.fresh(name)
        self.weights[name] = np.asarray(value)
        return name

    def fresh(self, name: str) -> str:
        taken = self.weights.keys() | self.uses.producers.keys() | self.stored.keys() | {value.name for value in self.graph.inputs}
        return unused(name, taken)

    def fresh_node(self, name: str) -> str:
        return unused(name, {node.name for node in (*self.graph.nodes, *self.nodes)})

    def _emit(self, node: Node, *, numbers: bool) -> None:
        if numbers:
            for name in node.inputs:
                self.numbers(name)
        self.nodes.append(node)


def unused(name: str, taken: Any) -> str:
    """Return the name, with a number where it is taken."""
    candidate, number = name, 0
    while candidate in taken:
        number += 1
        candidate = f"{name}_{number}"
    return candidate
