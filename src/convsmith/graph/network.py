"""A network as data: immutable nodes in execution order, with the vocabulary of ONNX operators.

Axes are those of ONNX: activations NCHW, convolution weights KCRS (out channels, in channels / groups, rows, columns).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from convsmith.errors import UsageError, near

Attribute = int | float | str | tuple[int, ...] | tuple[float, ...]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Value:
    """A named array that flows along the graph; ``shape`` has the batch as its first axis, -1 for any batch."""

    name: str
    shape: Shape
    dtype: str = "float32"


@dataclass(frozen=True)
class Node:
    """One operation: an ONNX operator name, the names it reads and writes, and its attributes.

    ``name`` is unique in the graph and readable (the module path in torch, such as ``features.0``); plans match it by glob.
    An empty string in ``inputs`` is an absent optional input, as in ONNX.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "attributes", MappingProxyType(dict(self.attributes)))

    def __hash__(self) -> int:
        return hash((self.name, self.op, self.inputs, self.outputs, tuple(sorted(self.attributes.items()))))

    def __reduce__(self) -> tuple[type[Node], tuple[Any, ...]]:
        # a mapping proxy can be neither pickled nor deep-copied
        return Node, (self.name, self.op, self.inputs, self.outputs, dict(self.attributes))


@dataclass(frozen=True, eq=False, repr=False)
class Graph:
    """A whole network: inputs, outputs, nodes in a valid execution order, and constant arrays by name.

    Operators mean what ONNX operator set 18 says (``Gelu``: 20). Two graphs are equal when their nodes are and every
    weight has the same type, shape and bits.
    """

    name: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    nodes: tuple[Node, ...]
    weights: Mapping[str, np.ndarray[Any, Any]]

    def __post_init__(self) -> None:
        frozen = {}
        for key, array in self.weights.items():
            array = np.asarray(array).view()
            array.flags.writeable = False
            frozen[key] = array
        object.__setattr__(self, "weights", MappingProxyType(frozen))
        check(self)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Graph):
            return NotImplemented
        mine, theirs = (self.name, self.inputs, self.outputs, self.nodes), (other.name, other.inputs, other.outputs, other.nodes)
        if mine != theirs or self.weights.keys() != other.weights.keys():
            return False
        return all(same_bits(array, other.weights[key]) for key, array in self.weights.items())

    def __hash__(self) -> int:
        return hash((self.name, self.inputs, self.outputs, self.nodes))

    def __repr__(self) -> str:
        numbers = sum(array.size for array in self.weights.values())
        return f"Graph({self.name!r}, {len(self.nodes)} nodes, {len(self.weights)} weights of {numbers:,} numbers)"

    def __reduce__(self) -> tuple[type[Graph], tuple[Any, ...]]:
        return Graph, (self.name, self.inputs, self.outputs, self.nodes, dict(self.weights))

    def node(self, name: str) -> Node:
        """Return the node of that name; ``UsageError`` names the nearest when there is none."""
        for candidate in self.nodes:
            if candidate.name == name:
                return candidate
        raise UsageError(f"no node {name!r} in graph {self.name!r}.{near(name, (n.name for n in self.nodes))}")


def same_bits(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
    """Tell whether two arrays have the same type, shape and bits: NaN equals itself, -0 differs from 0."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    left, right = (np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in (a, b))
    return bool(np.array_equal(left, right))


def check(graph: Graph) -> None:
    """Raise ``UsageError`` unless names are unique, every input is produced earlier and every output exists."""
    known = {value.name for value in graph.inputs} | set(graph.weights)
    names: set[str] = set()
    for node in graph.nodes:
        if node.name in names:
            raise UsageError(f"two nodes are named {node.name!r}; names must be unique")
        names.add(node.name)
        for source in node.inputs:
            if source and source not in known:
                raise UsageError(f"node {node.name!r} ({node.op}) reads {source!r}, which nothing before it produces")
        for target in node.outputs:
            if target in known:
                raise UsageError(f"node {node.name!r} ({node.op}) writes {target!r}, which exists already")
            known.add(target)
    for value in graph.outputs:
        if value.name not in known:
            raise UsageError(f"graph output {value.name!r} is produced by no node")
