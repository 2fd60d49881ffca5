"""Statistics of an edited network brought back to those of the original, without training."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convsmith.graph import Graph, Node, with_weights
from convsmith.interop import pytorch
from convsmith.redesign import apply as apply_edits
from convsmith.redesign.edit import Edit

Array = np.ndarray[Any, Any]

LAYERS: Final = frozenset({"Conv", "Gemm"})
STRETCH: Final = 2.0
"""A channel is scaled by at most this factor, either way: one that an edit all but silenced is not blown up."""


def correct(original: Graph, edited: Graph, x_nchw: NDArray[np.float32]) -> Graph:
    """Give each channel of each layer the mean and deviation that it had in the original network on the images.

    Layers are taken in order, each corrected before the next one reads it: of those that both networks have with as many outputs, weights
    and bias of a convolution or dense layer are scaled and shifted. Batch normalisation is folded first, since a layer and its
    normalisation are one linear function; so the result has none where it could be folded. No labels are used.

    References: Nagel et al. 2019, arXiv:1906.04721, section 4.2 (bias correction); Sun et al. 2019, arXiv:1907.12815 (statistics
    of batch normalisation estimated anew).
    """
    original, edited = (apply_edits(graph, [Edit("fold")]) for graph in (original, edited))
    wanted = statistics(original, x_nchw)
    changed: dict[str, Array] = {}

    def bring_back(node: Node, output: Tensor) -> Tensor:
        aim = wanted.get(node.name)
        if aim is None or not correctable(edited, node) or len(aim[0]) != output.shape[1]:
            return output
        mean, deviation = moments(output)
        scale = torch.where(deviation > 1e-12, aim[1] / deviation.clamp_min(1e-12), torch.ones_like(deviation)).clamp(1 / STRETCH, STRETCH)
        shift = aim[0] - mean * scale
        changed.update(moved(edited, node, scale.numpy(), shift.numpy()))
        along = (1, -1) + (1,) * (output.dim() - 2)
        return (output.double() * scale.view(along) + shift.view(along)).to(output.dtype)

    module = pytorch.write(edited).eval()
    module.on_output = bring_back
    with torch.no_grad():
        module(torch.from_numpy(x_nchw))
    return with_weights(edited, changed)


def statistics(graph: Graph, x_nchw: NDArray[np.float32]) -> dict[str, tuple[Tensor, Tensor]]:
    """Return mean and deviation of each channel of each layer, by node."""
    found: dict[str, tuple[Tensor, Tensor]] = {}

    def look(node: Node, output: Tensor) -> Tensor:
        if node.op in LAYERS:
            found[node.name] = moments(output)
        return output

    module = pytorch.write(graph).eval()
    module.on_output = look
    with torch.no_grad():
        module(torch.from_numpy(x_nchw))
    return found


def moments(output: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and deviation over all but the channels, in float64."""
    axes = [axis for axis in range(output.dim()) if axis != 1]
    deviation, mean = torch.std_mean(output.double(), axes, unbiased=False)
    return mean, deviation


def correctable(graph: Graph, node: Node) -> bool:
    """Tell whether a layer has a bias and weights of its own, which no other node reads."""
    if node.op not in LAYERS or len(node.inputs) < 3 or not node.inputs[2]:
        return False
    own = [name for name in node.inputs[1:] if name in graph.weights and sum(name in other.inputs for other in graph) == 1]
    return (
        len(own) == 2 and graph.weights[node.inputs[2]].ndim == 1 and node.attributes.get("alpha", 1) == node.attributes.get("beta", 1) == 1
    )


def moved(graph: Graph, node: Node, scale: Array, shift: Array) -> dict[str, Array]:
    """Return weights and bias of a layer whose outputs are scaled and shifted by channel."""
    weight, bias = (graph.weights[name].astype(np.float64) for name in node.inputs[1:3])
    axis = 1 if node.op == "Gemm" and not node.attributes.get("transB", 0) else 0
    along = [-1 if place == axis else 1 for place in range(weight.ndim)]
    arrays = weight * scale.reshape(along), bias * scale + shift
    return {name: array.astype(graph.weights[name].dtype) for name, array in zip(node.inputs[1:3], arrays, strict=True)}
