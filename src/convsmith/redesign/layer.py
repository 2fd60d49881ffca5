"""A layer with constant weights read out of a graph, and a chain of layers put in its place."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from convsmith.errors import UnsupportedError, UsageError
from convsmith.graph import Graph, Node, reads, replace_node
from convsmith.redesign.edit import Edit

Array = np.ndarray[Any, Any]
Pair = tuple[int, int]


@dataclass(frozen=True)
class Convolution:
    """A two-dimensional convolution: float64 weights ``w_kcrs`` (out, in / groups, rows, columns), bias or None, and its geometry.

    ``pads``: top, left, bottom, right, as in ONNX.
    """

    node: Node
    w_kcrs: Array
    bias: Array | None
    strides: Pair = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: Pair = (1, 1)
    groups: int = 1

    @property
    def outputs(self) -> int:
        return int(self.w_kcrs.shape[0])

    @property
    def inputs(self) -> int:
        return int(self.w_kcrs.shape[1]) * self.groups

    @property
    def kernel(self) -> Pair:
        return int(self.w_kcrs.shape[2]), int(self.w_kcrs.shape[3])

    @property
    def spread(self) -> int:
        """Pixels of the input for each one of the output, up to borders."""
        return self.strides[0] * self.strides[1]

    @property
    def is_depthwise(self) -> bool:
        return self.groups == self.inputs == self.outputs and self.groups > 1


@dataclass(frozen=True)
class Part:
    """One convolution of a chain; ``suffix`` is added to the name of the node it stands for, the last part keeps the name."""

    suffix: str
    w_kcrs: Array
    strides: Pair = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: Pair = (1, 1)
    groups: int = 1


def reason_against(graph: Graph, node: Node) -> str | None:
    """Return why a node cannot be read as a `Convolution`, None when it can."""
    if node.op != "Conv":
        return f"it is a {node.op}, not a convolution"
    if any(name not in graph.weights for name in node.inputs[1:] if name):
        return "its weights are computed, not constant"
    if graph.weights[node.inputs[1]].ndim != 4 or graph.weights[node.inputs[1]].dtype.kind != "f":
        return "its weights are not those of a floating-point convolution over rows and columns"
    if node.attributes.get("auto_pad", "NOTSET") != "NOTSET":
        return "its padding depends on the size of the image (auto_pad)"
    return None


def convolution(graph: Graph, edit: Edit) -> Convolution:
    """Return the convolution that an edit is about.

    Raises: ``UsageError`` for an unknown node, ``UnsupportedError`` for one that cannot be changed so.
    """
    node = graph.node(edit.node)
    reason = reason_against(graph, node)
    if reason is not None:
        raise UnsupportedError(f"node {node.name!r} cannot become {edit.kind!r}: {reason}")
    return read(graph, node)


def read(graph: Graph, node: Node) -> Convolution:
    """Return a node for which `reason_against` found nothing."""
    a: Any = node.attributes
    bias = graph.weights[node.inputs[2]].astype(np.float64) if len(node.inputs) > 2 and node.inputs[2] else None
    return Convolution(
        node, graph.weights[node.inputs[1]].astype(np.float64), bias, tuple(a.get("strides", (1, 1))), tuple(a.get("pads", (0,) * 4)),
        tuple(a.get("dilations", (1, 1))), int(a.get("group", 1)),
    )  # fmt: skip


def convolutions(graph: Graph) -> Iterator[Convolution]:
    """Yield every convolution that edits can change, in order."""
    for node in graph:
        if reason_against(graph, node) is None:
            yield read(graph, node)


def require_dense(layer: Convolution, kind: str) -> None:
    """Raise ``UnsupportedError`` for a grouped convolution."""
    if layer.groups != 1:
        raise UnsupportedError(f"node {layer.node.name!r} cannot become {kind!r}: it has {layer.groups} groups, only 1 can be factorised")


def chain(graph: Graph, layer: Convolution, parts: Sequence[Part]) -> Graph:
    """Put convolutions one after the other in the place of one; the last has its name, its bias and writes its output.

    Weights are rounded once to the type of the old ones.
    """
    dtype = graph.weights[layer.node.inputs[1]].dtype
    names = Names(graph)
    source, nodes, weights = layer.node.inputs[0], [], {}
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        name = layer.node.name if last else names.new(f"{layer.node.name}.{part.suffix}")
        weight = names.weight(layer.node.inputs[1]) if last else names.new(f"{name}.weight")
        weights[weight] = part.w_kcrs.astype(dtype)
        inputs = (source, weight, *(layer.node.inputs[2:] if last else ()))
        outputs = layer.node.outputs if last else (name,)
        nodes.append(Node(name, "Conv", inputs, outputs, geometry(part)))
        source = outputs[0]
    return replace_node(graph, layer.node.name, tuple(nodes), weights)


def geometry(part: Part | Convolution) -> dict[str, Any]:
    """Return the attributes of a convolution."""
    kernel = tuple(int(n) for n in part.w_kcrs.shape[2:])
    return {"kernel_shape": kernel, "strides": part.strides, "pads": part.pads, "dilations": part.dilations, "group": part.groups}


class Names:
    """Names for new nodes, values and weights of a graph: none is given twice."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.taken = {value.name for value in graph.inputs} | set(graph.weights)
        for node in graph:
            self.taken |= {node.name, *node.outputs}

    def new(self, wanted: str) -> str:
        """Return the name, with a number behind it where it is taken."""
        name, number = wanted, 1
        while name in self.taken:
            number += 1
            name = f"{wanted}_{number}"
        self.taken.add(name)
        return name

    def weight(self, old: str) -> str:
        """Return the name of a weight that is replaced: its own, or a new one when others read the old numbers."""
        return old if len(reads(self.graph, old)) <= 1 else self.new(old)


def sole_reader(graph: Graph, value: str) -> Node | None:
    """Return the node that alone reads a value which is no output of the graph, None where there is none or more than one."""
    if any(output.name == value for output in graph.outputs):
        return None
    found = reads(graph, value)
    return found[0] if len(found) == 1 and found[0].inputs.count(value) == 1 else None


def producer(graph: Graph, value: str) -> Node | None:
    """Return the node that writes a value, None for an input or a weight."""
    return next((node for node in graph if value in node.outputs), None)


def replace_weights(graph: Graph, node: Node, changed: dict[int, Array]) -> Graph:
    """Give a node other constant arrays at some of its inputs; nodes that share the old ones keep them."""
    names, inputs, weights = Names(graph), list(node.inputs), {}
    for index, array in changed.items():
        inputs[index] = names.weight(node.inputs[index])
        weights[inputs[index]] = array.astype(graph.weights[node.inputs[index]].dtype)
    return replace_node(graph, node.name, (dataclasses.replace(node, inputs=tuple(inputs)),), weights)


def require_at_most(edit: Edit, name: str, value: int, most: int) -> None:
    """Raise ``UsageError`` when a rank or width is beyond what the layer can have."""
    if value > most:
        raise UsageError(f"edit {edit.kind!r} of node {edit.node!r} has {name} {value}; the layer allows at most {most}")
