"""The layers of a graph whose weights are codes: where codes, steps and bias lie, and the graph with other ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convsmith.graph import Graph, Node, with_weights
from convsmith.precision.affine_range import along_axis
from convsmith.precision.quantisation import LAYERS


@dataclass(frozen=True)
class CodeLayer:
    """A layer whose weights are dequantised codes. ``axis``: that of the output channels, None where one step serves all.

    ``bias``: the name of its bias, codes or float32, "" without one; ``bias_step``: the steps of a bias of codes, None of floats.
    """

    node: Node
    codes: str
    scale: str
    axis: int | None
    bias: str
    bias_step: NDArray[np.float32] | None

    def steps(self, graph: Graph) -> NDArray[np.float32]:
        """Return the steps of the weights, shaped to spread over them."""
        return along_axis(graph.weights[self.scale], self.axis, graph.weights[self.codes].ndim)


def code_layers(graph: Graph) -> tuple[CodeLayer, ...]:
    """Return the convolutions and linear layers on codes, in order."""
    made = {node.outputs[0]: node for node in graph if node.op == "DequantizeLinear"}
    found = []
    for node in graph:
        source = made.get(node.inputs[1]) if node.op in LAYERS and len(node.inputs) > 1 else None
        if source is None or source.inputs[0] not in graph.weights:
            continue
        codes, scale = source.inputs[:2]
        rank = graph.weights[codes].ndim
        axis = int(source.attributes.get("axis", 1)) % rank if graph.weights[scale].ndim else None  # type: ignore[arg-type]
        name = node.inputs[2] if len(node.inputs) > 2 else ""
        of_bias = made.get(name)
        if of_bias is not None:
            found.append(CodeLayer(node, codes, scale, axis, of_bias.inputs[0], graph.weights[of_bias.inputs[1]]))
        else:
            found.append(CodeLayer(node, codes, scale, axis, name if name in graph.weights else "", None))
    return tuple(found)


def with_bias_moved(graph: Graph, moves: Mapping[str, NDArray[Any]]) -> Graph:
    """Return the graph with something added to the biases of layers, by node name; in whole steps where a bias is of codes.

    Layers without a bias, and layers that share one, keep what they have.
    """
    changed: dict[str, NDArray[Any]] = {}
    shared = {layer.bias for layer in code_layers(graph)}
    for layer in code_layers(graph):
        if layer.node.name not in moves or not layer.bias or layer.bias not in shared:
            continue
        shared.discard(layer.bias)
        old, move = graph.weights[layer.bias], np.asarray(moves[layer.node.name], np.float64)
        if layer.bias_step is None:
            changed[layer.bias] = (old + move).astype(old.dtype)
        else:
            whole = old.astype(np.int64) + np.rint(move / layer.bias_step.astype(np.float64)).astype(np.int64)
            changed[layer.bias] = np.clip(whole, -(2**31), 2**31 - 1).astype(old.dtype)
    return with_weights(graph, changed)
