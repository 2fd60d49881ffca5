"""A convolution becomes 1x1, a depthwise convolution, 1x1: the canonical polyadic decomposition.

``w[k,c,p] = sum over r of outputs[k,r] inputs[c,r] kernels[r,p]`` with the places p of the kernel as one axis. Terms are fitted by
alternating least squares with a ridge and an error preserving correction, since plain least squares lets them grow and cancel.

Cost: ``in R Hin Win + (N M R + out R) H W`` multiplications instead of ``N M in out H W``.
References: Lebedev et al. 2015, arXiv:1412.6553, equations 4 to 7 (there with rows and columns apart); Astrid, Lee 2017,
arXiv:1701.07148 (places as one axis); Phan et al. 2020, arXiv:2008.05441 (stability).
"""

from __future__ import annotations

from convsmith.graph import Graph
from convsmith.redesign import tucker
from convsmith.redesign.edit import Edit
from convsmith.redesign.layer import chain, convolution, convolutions, require_at_most, require_dense
from convsmith.redesign.ranks import ladder
from convsmith.redesign.tensors import canonical


def apply(graph: Graph, edit: Edit) -> Graph:
    """Replace a convolution by three with ``rank`` channels between them, the middle one depthwise."""
    layer, rank = convolution(graph, edit), edit.whole("rank")
    require_dense(layer, edit.kind)
    outputs, inputs = layer.outputs, layer.inputs
    require_at_most(edit, "rank", rank, min(outputs * inputs, inputs * layer.kernel[0] * layer.kernel[1]))
    k, c, p = canonical(layer.w_kcrs.reshape(outputs, inputs, -1), rank)
    return chain(graph, layer, tucker.parts(layer, c.T, p.T.reshape(rank, 1, *layer.kernel), k, groups=rank))


def propose(graph: Graph) -> list[Edit]:
    """Propose ranks that spend parts of the multiplications."""
    edits = []
    for layer in convolutions(graph):
        places = layer.kernel[0] * layer.kernel[1]
        if layer.groups == 1 and places > 1:
            most = places * layer.inputs * layer.outputs / (layer.spread * layer.inputs + layer.outputs + places)
            ranks = ladder(int(most), [most * share for share in (0.25, 0.4, 0.6)])
            edits += [Edit("cp", layer.node.name, {"rank": rank}) for rank in ranks]
    return edits
