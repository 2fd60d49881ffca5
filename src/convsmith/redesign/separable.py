"""A convolution becomes depthwise separable: ``multiplier`` kernels of its own for each input channel, then 1x1.

The weights of one input channel, as a matrix of outputs by places of the kernel, have a best approximation of rank ``multiplier`` by
their singular values: its right vectors are the kernels of that channel, its left vectors the 1x1 weights. With as many terms as the
kernel has places it is exact.

Cost: ``m in (N M + out) H W`` multiplications instead of ``N M in out H W``.
References: Guo et al. 2018, Network decoupling, arXiv:1808.05517, theorem 1 and equation 3; Howard et al. 2017, arXiv:1704.04861.
"""

from __future__ import annotations

import numpy as np

from convsmith.graph import Graph
from convsmith.redesign.edit import Edit
from convsmith.redesign.layer import Part, chain, convolution, convolutions, require_at_most, require_dense
from convsmith.redesign.tensors import truncated


def apply(graph: Graph, edit: Edit) -> Graph:
    """Replace a convolution by a depthwise one and 1x1; ``multiplier`` kernels a channel."""
    layer, multiplier = convolution(graph, edit), edit.whole("multiplier")
    require_dense(layer, edit.kind)
    outputs, inputs = layer.outputs, layer.inputs
    places = layer.kernel[0] * layer.kernel[1]
    require_at_most(edit, "multiplier", multiplier, min(places, outputs))
    pairs = [truncated(layer.w_kcrs[:, channel].reshape(outputs, places), multiplier) for channel in range(inputs)]
    kernels = np.concatenate([right for _, right in pairs]).reshape(inputs * multiplier, 1, *layer.kernel)
    mixed = np.concatenate([left for left, _ in pairs], axis=1)[:, :, None, None]
    parts = [Part("depthwise", kernels, layer.strides, layer.pads, layer.dilations, inputs), Part("pointwise", mixed)]
    return chain(graph, layer, parts)


def propose(graph: Graph) -> list[Edit]:
    """Propose one to four kernels a channel, where that is cheaper than before."""
    edits = []
    for layer in convolutions(graph):
        places = layer.kernel[0] * layer.kernel[1]
        if layer.groups == 1 and places > 1 and layer.inputs > 1:
            cheaper = [m for m in (1, 2, 3, 4) if m <= min(places, layer.outputs) and m * (places + layer.outputs) < places * layer.outputs]
            edits += [Edit("separable", layer.node.name, {"multiplier": m}) for m in cheaper]
    return edits
