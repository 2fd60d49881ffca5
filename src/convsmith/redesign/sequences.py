"""Two convolutions with nothing between them become one.

``(b * (a * x))`` is a convolution with the kernel ``sum over m of b[k,m] * a[m,c]``. Exact when the second is 1x1, and when the first is
1x1 and the second sees no padding or the first adds no bias; else borders would differ. It undoes a factorisation that turned out slower.

Cost: ``N M in out H W`` multiplications instead of those of the two; proposed only where they are fewer.
References: Ding et al. 2021, Diverse Branch Block, arXiv:2103.13425, transform III.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from convsmith.errors import UnsupportedError
from convsmith.graph import Graph, Node, replace_node
from convsmith.graph.rewrite import remove_node
from convsmith.redesign.edit import Edit
from convsmith.redesign.layer import Convolution, Names, convolution, geometry, producer, read, reason_against, sole_reader

Array = np.ndarray[Any, Any]


def apply(graph: Graph, edit: Edit) -> Graph:
    """Put the convolution before ``node`` into it."""
    second = convolution(graph, edit)
    first = before(graph, second)
    if first is None:
        raise UnsupportedError(f"node {edit.node!r} follows no convolution that it alone reads and that can be put into it exactly")
    joined = composed(first, second)
    dtype = graph.weights[second.node.inputs[1]].dtype
    names = Names(graph)
    weight, bias = names.new(f"{second.node.name}.joined.weight"), names.new(f"{second.node.name}.joined.bias")
    arrays = {weight: joined.w_kcrs.astype(dtype)}
    inputs = [second.node.inputs[0], weight]
    if joined.bias is not None:
        arrays[bias], inputs = joined.bias.astype(dtype), [*inputs, bias]
    node = Node(second.node.name, "Conv", tuple(inputs), second.node.outputs, geometry(joined))
    return remove_node(replace_node(graph, second.node.name, (node,), arrays), first.node.name)


def propose(graph: Graph) -> list[Edit]:
    """Propose it where one convolution has fewer weights than the two."""
    edits = []
    for node in graph:
        if reason_against(graph, node) is None:
            second = read(graph, node)
            first = before(graph, second)
            if first is not None and composed(first, second).w_kcrs.size < first.w_kcrs.size + second.w_kcrs.size:
                edits.append(Edit("join", node.name))
    return edits


def before(graph: Graph, second: Convolution) -> Convolution | None:
    """Return the convolution before another one when both can be one."""
    node = producer(graph, second.node.inputs[0])
    if node is None or reason_against(graph, node) is not None or sole_reader(graph, node.outputs[0]) is None or second.groups != 1:
        return None
    first = read(graph, node)
    padded = any(second.pads)
    small_second = second.kernel == (1, 1) and second.strides == (1, 1) and not padded
    small_first = first.kernel == (1, 1) and first.strides == (1, 1) and not any(first.pads) and (first.bias is None or not padded)
    return first if first.groups == 1 and (small_second or small_first) else None


def composed(first: Convolution, second: Convolution) -> Convolution:
    """Return both as one; one of the two is 1x1."""
    if second.kernel == (1, 1):
        w = np.einsum("km,mcrs->kcrs", second.w_kcrs[:, :, 0, 0], first.w_kcrs, optimize=True)
        outer = first
    else:
        w = np.einsum("kmrs,mc->kcrs", second.w_kcrs, first.w_kcrs[:, :, 0, 0], optimize=True)
        outer = second
    bias = second.bias
    if first.bias is not None:
        moved = second.w_kcrs.sum(axis=(2, 3)) @ first.bias
        bias = moved if bias is None else bias + moved
    return Convolution(second.node, w, bias, outer.strides, outer.pads, outer.dilations)
