"""Biases moved so that the mean of every channel is that of the float32 network again: rounding the weights shifts it.

References: Nagel et al. 2019, arXiv 1906.04721, section 4.2; Banner et al. 2019, Post training 4-bit quantization, arXiv 1810.05723.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from convsmith.errors import DataError
from convsmith.graph import Graph
from convsmith.precision.code_layers import code_layers, with_bias_moved

if TYPE_CHECKING:
    from torch import Tensor

    from convsmith.graph.network import Node


def correct_biases(codes: Graph, graph: Graph, x_nchw: Any) -> Graph:
    """Return a graph of codes whose layers have the mean outputs of the float32 ``graph`` they were made from, on these images.

    Layers are corrected in order, each seeing what the corrected ones before it give, in one pass. A bias of codes moves by whole steps.

    Shapes: ``x_nchw`` float32 ``(n, c, h, w)``, one batch.
    """
    import torch

    from convsmith.interop import pytorch

    x = torch.as_tensor(x_nchw)
    if x.ndim != 4 or not len(x):
        raise DataError(f"biases are corrected on images (n, channels, height, width), at least one; got shape {tuple(x.shape)}")
    layers = {layer.node.name: layer for layer in code_layers(codes) if layer.bias}
    wanted: dict[str, NDArray[np.float64]] = {}
    moves: dict[str, NDArray[np.float64]] = {}

    def note(node: Node, output: Tensor) -> Tensor:
        if node.name in layers:
            wanted[node.name] = channel_means(output)
        return output

    def move(node: Node, output: Tensor) -> Tensor:
        if node.name not in layers:
            return output
        step = layers[node.name].bias_step
        off = wanted[node.name] - channel_means(output)
        moves[node.name] = off if step is None else np.rint(off / step) * step
        shift = torch.from_numpy(moves[node.name].astype(np.float32))
        return output + shift.reshape([1, -1] + [1] * (output.dim() - 2))

    original, rounded = pytorch.write(graph).eval(), pytorch.write(codes).eval()
    original.on_output, rounded.on_output = note, move
    with torch.no_grad():
        original(x)
        rounded(x)
    return with_bias_moved(codes, moves)


def channel_means(output: Tensor) -> NDArray[np.float64]:
    """Return the mean of each channel, over images and pixels."""
    return output.double().mean([axis for axis in range(output.dim()) if axis != 1]).numpy()
