"""A ``Graph`` as a torch module: one submodule a node, trainable parameters under their own names."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from convsmith.errors import UnsupportedError, UsageError
from convsmith.graph import Graph, Node, dying_values, learned
from convsmith.interop.torch_operators import OPERATORS

OutputVisitor = Callable[[Node, Tensor], Tensor]
WeightVisitor = Callable[[Node, str, Tensor], Tensor]


class Operation(nn.Module):
    """One node; takes its inputs as arguments, so that ordinary torch hooks see them."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.node = node

    def forward(self, *inputs: Any) -> Any:
        return OPERATORS[self.node.op](inputs, self.node.attributes)

    def extra_repr(self) -> str:
        return f"{self.node.op}, {dict(self.node.attributes)}" if self.node.attributes else self.node.op


class GraphModule(nn.Module):
    """Evaluates a graph with torch, with gradients.

    ``node_modules[name]`` is the submodule of a node, at the node's own path, for ordinary hooks. ``on_output(node, output)``
    and ``on_weight(node, weight_name, weight)``, when set, replace what a node gives and what it reads from its weights.
    Floating-point weights are parameters under their own names, except constants and running statistics (buffers).
    Batch normalisation always uses the stored statistics.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        unknown = [f"{node.op} (node {node.name!r})" for node in graph if node.op not in OPERATORS]
        if unknown:
            raise UnsupportedError(f"no torch operator for {', '.join(unknown)}; supported are {', '.join(sorted(OPERATORS))}")
        self.graph = graph
        self.on_output: OutputVisitor | None = None
        self.on_weight: WeightVisitor | None = None
        self.node_modules: dict[str, Operation] = {}
        self._dying = dying_values(graph)
        self._constants: dict[str, np.ndarray[Any, Any]] = {}
        self._places: dict[str, tuple[nn.Module, str]] = {}
        for node in sorted(graph, key=lambda node: node.name.count(".")):
            self.node_modules[node.name] = self._place_node(node)
        trainable = {name for names in learned(graph).values() for name in names}
        for name, array in graph.weights.items():
            if array.dtype.kind == "f":
                self._place_weight(name, torch.from_numpy(array.copy()), name in trainable)
            else:
                self._constants[name] = array

    def _owner(self, path: str) -> tuple[nn.Module, str]:
        """Return the module that holds ``path`` and the last part of it, making containers on the way."""
        *parents, last = path.split(".")
        owner: nn.Module = self
        for part in parents:
            child = owner._modules.get(part)
            if child is None:
                child = nn.Module()
                owner.add_module(part, child)
            owner = child
        return owner, last

    def _place_node(self, node: Node) -> Operation:
        operation = Operation(node)
        owner, last = self._owner(node.name)
        last = free(owner, last)
        owner.add_module(last, operation)
        return operation

    def _place_weight(self, name: str, tensor: Tensor, learned: bool) -> None:
        owner, last = self._owner(name)
        last = free(owner, last)
        if learned:
            owner.register_parameter(last, nn.Parameter(tensor))
        else:
            owner.register_buffer(last, tensor)
        self._places[name] = owner, last

    def weight(self, name: str) -> Any:
        """Return a weight by its name in the graph: parameter, buffer, or array of whole numbers."""
        if name in self._constants:
            return self._constants[name]
        owner, last = self._places[name]
        return getattr(owner, last)

    def forward(self, *inputs: Tensor) -> Any:
        if len(inputs) != len(self.graph.inputs):
            raise UsageError(f"graph {self.graph.name!r} takes {len(self.graph.inputs)} inputs, got {len(inputs)}")
        values: dict[str, Any] = {value.name: tensor for value, tensor in zip(self.graph.inputs, inputs, strict=True)}
        for node, unread in zip(self.graph, self._dying, strict=True):
            outputs = self.node_modules[node.name](*(self._read(node, source, values) for source in node.inputs))
            items = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
            for name, item in zip(node.outputs, items, strict=False):
                values[name] = self.on_output(node, item) if self.on_output is not None and isinstance(item, Tensor) else item
            for name in unread:
                values.pop(name, None)
        results = tuple(values[value.name] if value.name in values else self.weight(value.name) for value in self.graph.outputs)
        return results[0] if len(results) == 1 else results

    def _read(self, node: Node, source: str, values: dict[str, Any]) -> Any:
        if not source:
            return None
        if source in values:
            return values[source]
        weight = self.weight(source)
        if self.on_weight is not None and isinstance(weight, Tensor):
            return self.on_weight(node, source, weight)
        return weight

    def to_graph(self) -> Graph:
        """Return the graph with the weights as they are now."""
        current = {name: self.weight(name) for name in self.graph.weights}
        arrays = {name: value.detach().cpu().numpy().copy() if isinstance(value, Tensor) else value for name, value in current.items()}
        return dataclasses.replace(self.graph, weights=arrays)


def free(owner: nn.Module, name: str) -> str:
    """Return ``name`` with as many underscores as make it new in a torch module, whose own attributes are taken too."""
    while not name or name in owner._modules or name in owner._parameters or name in owner._buffers or hasattr(owner, name):
        name += "_"
    return name
