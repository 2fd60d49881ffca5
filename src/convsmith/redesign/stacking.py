"""A large kernel becomes a stack of 3x3 convolutions.

A 5x5 or 7x7 kernel is a 3x3 kernel after one that is smaller by 2: ``w[k,c,p] = sum over m and i + j = p of b[k,m,j] a[m,c,i]``.
All of the padding goes to the first, so that borders are exact too; strides go to the last. With 9 * min(in, out) channels between two
layers every 5x5 kernel is reached exactly; with fewer, ``a`` and ``b`` are fitted by alternating least squares. No activation is put
between them, so that the network stays what it was.

Cost: ``9 (in M H1 W1 + out M H W)`` multiplications for 5x5 instead of ``25 in out H W``; M channels between, H1 = H + 2.
References: Simonyan, Zisserman 2015, arXiv:1409.1556, section 2.3; Szegedy et al. 2016, arXiv:1512.00567, section 3.1.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from convsmith.errors import UnsupportedError
from convsmith.graph import Graph
from convsmith.redesign.edit import Edit
from convsmith.redesign.layer import Convolution, Part, chain, convolution, convolutions, require_dense
from convsmith.redesign.ranks import ladder
from convsmith.redesign.tensors import truncated

Array = np.ndarray[Any, Any]

SWEEPS: Final = 40
SHARES: Final = (0.4, 0.6, 0.8)
"""Parts of the old multiplications that proposals spend."""


def apply(graph: Graph, edit: Edit) -> Graph:
    """Replace a convolution of odd size 5 or more by 3x3 ones with ``width`` channels between them."""
    layer = convolution(graph, edit)
    require_dense(layer, edit.kind)
    side = layer.kernel[0]
    if layer.kernel != (side, side) or side < 5 or side % 2 == 0:
        raise UnsupportedError(f"node {edit.node!r} has a kernel of {layer.kernel}; a stack of 3x3 stands for 5x5, 7x7, 9x9 and so on")
    factors = stack(layer.w_kcrs, edit.whole("width"))
    parts = [Part(f"stack{number}", w, dilations=layer.dilations) for number, w in enumerate(factors)]
    first, last = parts[0], parts[-1]
    parts[0] = Part(first.suffix, first.w_kcrs, pads=layer.pads, dilations=layer.dilations)
    parts[-1] = Part(last.suffix, last.w_kcrs, strides=layer.strides, dilations=layer.dilations)
    return chain(graph, layer, parts)


def propose(graph: Graph) -> list[Edit]:
    """Propose widths that spend parts of the multiplications, and the one that is exact where it costs no more."""
    edits = []
    for layer in convolutions(graph):
        side = layer.kernel[0]
        if layer.groups == 1 and layer.kernel == (side, side) and side >= 5 and side % 2:
            whole = side * side * layer.inputs * layer.outputs
            # 3x3 in, 3x3 out and, for kernels above 5x5, width to width between them: the positive root
            a, b = 9 * layer.spread * (side - 5) // 2, 9 * (layer.spread * layer.inputs + layer.outputs)
            wanted = [(-b + np.sqrt(b * b + 4 * a * s * whole)) / (2 * a) if a else s * whole / b for s in SHARES]
            edits += [Edit("stack", layer.node.name, {"width": width}) for width in ladder(exact_width(layer) + 1, wanted)]
    return edits


def exact_width(layer: Convolution) -> int:
    """Return the channels between two layers with which every kernel is reached."""
    return 9 * min(layer.inputs, layer.outputs)


def stack(w_kcrs: Array, width: int) -> list[Array]:
    """Return 3x3 weights, first layer first, whose composition is nearest to the kernel."""
    if w_kcrs.shape[2] == 3:
        return [w_kcrs]
    rest, first = split(w_kcrs, min(width, 9 * w_kcrs.shape[1]))
    return [first, *stack(rest, width)]


def split(w_kcrs: Array, width: int) -> tuple[Array, Array]:
    """Return ``b, a`` with ``a`` of 3x3 before ``b``; starts from the singular vectors of w spread evenly over all (i, j) of a place."""
    outputs, inputs, side = w_kcrs.shape[0], w_kcrs.shape[1], w_kcrs.shape[2] - 2
    ways = np.minimum.reduce([np.arange(1, side + 3), np.arange(side + 2, 0, -1), np.full(side + 2, min(3, side))])
    spread = w_kcrs / np.outer(ways, ways)
    windows = np.lib.stride_tricks.sliding_window_view(spread, (3, 3), axis=(2, 3))
    left, right = truncated(windows.transpose(0, 2, 3, 1, 4, 5).reshape(outputs * side * side, inputs * 9), width)
    rank = right.shape[0]
    b = left.reshape(outputs, side, side, rank).transpose(0, 3, 1, 2)
    a = right.reshape(rank, inputs, 3, 3)
    for _ in range(SWEEPS):
        b = solve(placed(a, side), w_kcrs.reshape(outputs, -1)).reshape(outputs, rank, side, side)
        flipped = w_kcrs.transpose(1, 0, 2, 3).reshape(inputs, -1)
        a = solve(placed(b.transpose(1, 0, 2, 3), 3), flipped).reshape(inputs, rank, 3, 3).transpose(1, 0, 2, 3)
    return b, a


def placed(a_mcrs: Array, side: int) -> Array:
    """Return one row for each (m, place of the other kernel): the kernel a shifted to that place, flattened."""
    width, channels, rows, columns = a_mcrs.shape
    whole = np.zeros((width, side, side, channels, rows + side - 1, columns + side - 1))
    for y in range(side):
        for x in range(side):
            whole[:, y, x, :, y : y + rows, x : x + columns] = a_mcrs
    return whole.reshape(width * side * side, -1)


def solve(rows: Array, wanted: Array) -> Array:
    """Return the coefficients of each wanted row in the given ones: least squares with a ridge that keeps it stable."""
    gram = rows @ rows.T
    ridge = 1e-10 * float(np.trace(gram)) / len(gram)
    return np.asarray(np.linalg.solve(gram + ridge * np.eye(len(gram)), rows @ wanted.T).T)
