"""The notebook in which a reader writes down nodes, constants and shapes as it walks through a foreign network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from convsmith.graph import Attribute, Node

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]


class Recorder:
    """Collects the nodes of one graph; names stay unique and follow the name of the operation being read.

    ``shapes`` holds the known shape of every value, with -1 for an axis that depends on the batch.
    """

    def __init__(self, reserved: set[str]) -> None:
        self.nodes: list[Node] = []
        self.weights: dict[str, Array] = {}
        self.shapes: dict[str, Shape] = {}
        self.where = ""
        self.out_shape: Shape | None = None
        self._taken = set(reserved)

    def unique(self, name: str) -> str:
        """Return ``name``, or ``name_1``, ``name_2`` ... when it is taken, and reserve it."""
        candidate, number = name, 0
        while candidate in self._taken:
            number += 1
            candidate = f"{name}_{number}"
        self._taken.add(candidate)
        return candidate

    def emit(
        self,
        op: str,
        *inputs: str,
        part: str = "",
        outputs: int = 1,
        attributes: Mapping[str, Attribute] | None = None,
        **more: Attribute,
    ) -> str:
        """Add a node and return its (first) output; ``part`` names an inner step of a composite operation."""
        name = self.unique(f"{self.where}.{part}" if part else self.where)
        names = (name,) if outputs == 1 else tuple(self.unique(f"{name}:{index}") for index in range(outputs))
        self.nodes.append(Node(name, op, inputs, names, {**(attributes or {}), **more}))
        return names[0]

    def constant(self, part: str, values: Any, dtype: str) -> str:
        """Add a constant array for the operation being read and return its name."""
        name = self.unique(f"{self.where}.{part}")
        self.weights[name] = np.asarray(values, dtype)
        return name

    def integers(self, part: str, *values: int) -> str:
        """Add a constant int64 vector and return its name."""
        return self.constant(part, values, "int64")
