"""A network as data: immutable nodes in execution order, with the vocabulary of ONNX operators.

Axes are those of ONNX: activations NCHW, convolution weights KCRS (out channels, in channels / groups, rows, columns).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from convsmith.errors import UsageError

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


@dataclass(frozen=True)
class Graph:
    """A whole network: inputs, outputs, nodes in a valid execution order, and constant arrays by name."""

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

    def node(self, name: str) -> Node:
        """Return the node of that name; ``UsageError`` names the nearest when there is none."""
        for candidate in self.nodes:
            if candidate.name == name:
                return candidate
        from convsmith.errors import near

        raise UsageError(f"no node {name!r} in graph {self.name!r}.{near(name, (n.name for n in self.nodes))}")


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
