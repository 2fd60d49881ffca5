"""A convolution between two 1x1 convolutions: Tucker-2.

``w[k,c] = sum over i, j of outputs[k,i] core[i,j] inputs[c,j]``: 1x1 to ``in_rank`` channels, the core with the old kernel, strides and
padding, 1x1 back. Exact with full ranks; below, HOSVD and HOOI give the best subspaces. No activation between them.

Cost: ``in Rin Hin Win + (N M Rin Rout + out Rout) H W`` multiplications instead of ``N M in out H W``.
References: Tucker 1966, Psychometrika 31; Kim et al. 2016, arXiv:1511.06530, equations 2 to 5, ranks by variational Bayes (section 3.2).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from convsmith.graph import Graph
from convsmith.redesign.edit import Edit
from convsmith.redesign.layer import Convolution, Part, chain, convolution, convolutions, require_at_most, require_dense
from convsmith.redesign.ranks import energy_rank, ladder, singular_values, variational_rank
from convsmith.redesign.tensors import tucker2, unfold

Array = np.ndarray[Any, Any]


def apply(graph: Graph, edit: Edit) -> Graph:
    """Replace a convolution by three with ``in_rank`` and ``out_rank`` channels between them."""
    layer = convolution(graph, edit)
    require_dense(layer, edit.kind)
    out_rank, in_rank = edit.whole("out_rank"), edit.whole("in_rank")
    require_at_most(edit, "out_rank", out_rank, layer.outputs)
    require_at_most(edit, "in_rank", in_rank, layer.inputs)
    core, outputs, inputs = tucker2(layer.w_kcrs, out_rank, in_rank)
    return chain(graph, layer, parts(layer, inputs.T, core, outputs))


def parts(layer: Convolution, inputs: Array, core: Array, outputs: Array, groups: int = 1) -> list[Part]:
    """Return 1x1, the core in the geometry of the old layer, 1x1; ``inputs`` (rank, in), ``outputs`` (out, rank)."""
    return [
        Part("reduce", inputs[:, :, None, None]),
        Part("core", core, layer.strides, layer.pads, layer.dilations, groups),
        Part("expand", outputs[:, :, None, None]),
    ]


def multiplications(layer: Convolution, out_rank: int, in_rank: int) -> int:
    """Return those of one output pixel, the pixels of the input that belong to it included."""
    return layer.spread * layer.inputs * in_rank + layer.kernel[0] * layer.kernel[1] * in_rank * out_rank + layer.outputs * out_rank


def propose(graph: Graph) -> list[Edit]:
    """Propose the variational ranks and those that hold parts of the energy, where they are cheaper than before."""
    edits = []
    for layer in convolutions(graph):
        if layer.groups != 1 or layer.kernel == (1, 1):
            continue
        both = [unfold(layer.w_kcrs, axis) for axis in (0, 1)]
        values = [singular_values(matrix) for matrix in both]
        pairs = [[variational_rank(falling, matrix.shape) for falling, matrix in zip(values, both, strict=True)]]
        pairs += [[energy_rank(falling, share) for falling in values] for share in (0.5, 0.7, 0.8, 0.9, 0.95)]
        found = {(near(pair[0], layer.outputs), near(pair[1], layer.inputs)) for pair in pairs}
        whole = layer.kernel[0] * layer.kernel[1] * layer.inputs * layer.outputs
        cheaper = sorted(pair for pair in found if all(pair) and multiplications(layer, *pair) < whole)
        edits += [Edit("tucker", layer.node.name, {"out_rank": i, "in_rank": j}) for i, j in cheaper]
    return edits


def near(rank: int, most: int) -> int:
    """Return the rank in whole vectors, at most all channels; 0 for no rank at all."""
    return 0 if rank == 0 else (ladder(most, [rank]) or [most])[0]
