"""A kernel of N rows and M columns becomes N rows of one column, then one row of M columns.

The weights as a matrix of (in, row) by (column, out) have the singular value decomposition whose first R terms are the nearest pair of
convolutions with R channels between them (Eckart-Young); with all terms it is exact. A depthwise kernel is factorised channel by channel
and is exact for kernels of rank 1, such as Gaussians and Sobel's.

Cost: ``R (in N H W1 + out M H W)`` multiplications instead of ``N M in out H W``.
References: Jaderberg, Vedaldi, Zisserman 2014, arXiv:1405.3866, scheme 2; Tai et al. 2016, arXiv:1511.06067, theorem 1 (closed form).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from convsmith.errors import UnsupportedError
from convsmith.graph import Graph
from convsmith.redesign.edit import Edit
from convsmith.redesign.layer import Convolution, Part, chain, convolution, convolutions, require_at_most
from convsmith.redesign.ranks import energy_rank, ladder, singular_values
from convsmith.redesign.tensors import truncated

Array = np.ndarray[Any, Any]


def apply(graph: Graph, edit: Edit) -> Graph:
    """Replace a convolution by columns and then rows with ``rank`` channels between them, ``rank`` a channel where it is depthwise."""
    layer, rank = convolution(graph, edit), edit.whole("rank")
    if 1 in layer.kernel:
        raise UnsupportedError(f"node {edit.node!r} has a kernel of {layer.kernel}; there is nothing to separate")
    require_at_most(edit, "rank", rank, full_rank(layer))
    down, across = (depthwise if layer.is_depthwise else dense)(layer, rank)
    (top, left, bottom, right), (sy, sx), (dy, dx) = layer.pads, layer.strides, layer.dilations
    groups = layer.groups if layer.is_depthwise else 1
    parts = [
        Part("columns", down, (sy, 1), (top, 0, bottom, 0), (dy, 1), groups),
        Part("rows", across, (1, sx), (0, left, 0, right), (1, dx), groups),
    ]
    return chain(graph, layer, parts)


def propose(graph: Graph) -> list[Edit]:
    """Propose ranks that hold parts of the energy; only what is cheaper than before."""
    edits = []
    for layer in convolutions(graph):
        rows, columns = layer.kernel
        if 1 in layer.kernel or not (layer.groups == 1 or layer.is_depthwise):
            continue
        if layer.is_depthwise:
            edits += [Edit("spatial", layer.node.name, {"rank": r}) for r in range(1, 3) if r * (rows + columns) < rows * columns]
            continue
        values = singular_values(matrix(layer.w_kcrs))
        most = rows * columns * layer.inputs * layer.outputs / (layer.strides[1] * rows * layer.inputs + columns * layer.outputs)
        wanted = [energy_rank(values, share) for share in (0.6, 0.8, 0.9, 0.95)]
        ranks = ladder(int(most), [*wanted, most / 3, most / 2, most * 2 / 3])
        edits += [Edit("spatial", layer.node.name, {"rank": rank}) for rank in ranks if rank <= full_rank(layer)]
    return edits


def full_rank(layer: Convolution) -> int:
    """Return the rank with which every kernel is exact."""
    rows, columns = layer.kernel
    if layer.is_depthwise:
        return min(rows, columns)
    return min(rows * layer.inputs, columns * layer.outputs)


def matrix(w_kcrs: Array) -> Array:
    """Return the weights with rows (in, row) and columns (column, out)."""
    outputs, inputs, rows, columns = w_kcrs.shape
    return w_kcrs.transpose(1, 2, 3, 0).reshape(inputs * rows, columns * outputs)


def dense(layer: Convolution, rank: int) -> tuple[Array, Array]:
    if layer.groups != 1:
        raise UnsupportedError(f"node {layer.node.name!r} has {layer.groups} groups; only one, or one for each channel, can be separated")
    (rows, columns), outputs, inputs = layer.kernel, layer.outputs, layer.inputs
    left, right = truncated(matrix(layer.w_kcrs), rank)
    down = left.reshape(inputs, rows, rank).transpose(2, 0, 1)[..., None]
    across = right.reshape(rank, columns, outputs).transpose(2, 0, 1)[:, :, None]
    return down, across


def depthwise(layer: Convolution, rank: int) -> tuple[Array, Array]:
    pairs = [truncated(kernel, rank) for kernel in layer.w_kcrs[:, 0]]
    down = np.concatenate([left.T[:, None, :, None] for left, _ in pairs])
    across = np.stack([right[:, None, :] for _, right in pairs])
    return down, across
