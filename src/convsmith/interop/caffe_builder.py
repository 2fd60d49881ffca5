"""A Caffe network grows into nodes and weights, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from convsmith.errors import DataError, UnsupportedError
from convsmith.graph import Attribute, Node
from convsmith.interop.caffe_net import Array, many, one, part
from convsmith.interop.caffe_wire import Message


class Builder:
    """Nodes and weights of a graph, and which value each blob name stands for now: layers may overwrite their input in place."""

    def __init__(self, given: Mapping[str, Any], layers: list[Message], blobs: Mapping[str, list[Array]]) -> None:
        self.blobs = blobs
        self.nodes: list[Node] = []
        self.weights: dict[str, Array] = {}
        self.now = {name: name for name in given}
        self.written: list[str] = []
        self.reads = [bottom for layer in layers for bottom in many(layer, "bottom")]
        self.used: set[str] = set()
        self.matrices: set[str] = set()
        self.layer: Message = {}

    def add(self, layer: Message, handle: Handler) -> None:
        """Add the nodes of one layer."""
        self.layer = layer
        names = many(layer, "bottom")
        missing = [name for name in names if name not in self.now]
        if missing or not names:
            what = f"reads {missing[0]!r}, which no layer before it gives" if missing else "reads nothing"
            raise DataError(f"layer {self.name!r} ({self.kind}) {what}")
        sources = [self.now[name] for name in names]
        self.used.update(sources)
        results = handle(self, sources)
        for top, value in zip(many(layer, "top"), results, strict=False):
            self.now[top] = value
            self.written.append(value)

    @property
    def name(self) -> str:
        return str(one(self.layer, "name", ""))

    @property
    def kind(self) -> str:
        return str(one(self.layer, "type", ""))

    def settings(self, key: str) -> Message:
        return part(self.layer, key)

    def node(
        self, op: str, inputs: tuple[str, ...], attributes: Mapping[str, Attribute] | None = None, *, step: str = "", count: int = 1
    ) -> str:
        """Append a node named after the layer (and ``step``) and return its first output."""
        taken = {node.name for node in self.nodes} | set(self.now.values()) | set(self.weights)
        name = f"{self.name}.{step}" if step else self.name
        number = 0
        while name in taken:
            number += 1
            name = f"{self.name}.{step or 'copy'}{number}"
        outputs = (name,) if count == 1 else tuple(f"{name}.{index}" for index in range(count))
        self.nodes.append(Node(name, op, inputs, outputs, attributes or {}))
        return outputs[0]

    def weight(self, part: str, array: Array) -> str:
        """Keep an array under the layer's name and return the name it got."""
        name = f"{self.name}.{part}"
        while name in self.weights:
            name += "_"
        self.weights[name] = np.ascontiguousarray(array, dtype=None if array.dtype.kind == "i" else np.float32)
        return name

    def constant(self, part: str, value: float) -> str:
        return self.weight(part, np.asarray(value, np.float32))

    def arrays(self, least: int) -> list[Array]:
        """Return the layer's arrays from the .caffemodel, at least so many."""
        found = self.blobs.get(self.name, [])
        if len(found) < least:
            raise DataError(f"layer {self.name!r} ({self.kind}) needs {least} arrays, the .caffemodel has {len(found)} of that name")
        return list(found)

    def refuse(self, what: str) -> UnsupportedError:
        return UnsupportedError(f"layer {self.name!r} ({self.kind}): {what}")

    def unread(self) -> list[str]:
        """Return the values that no layer reads, in the order they were written."""
        last = [value for value in dict.fromkeys(self.written) if value not in self.used]
        return last or self.written[-1:]


Handler = Callable[[Builder, list[str]], list[str]]
"""Adds the nodes of one layer for the values it reads, and returns the values of its tops."""
