"""Parallel branches of one input become one convolution.

The sum of linear functions of the same input is linear: a 3x3 convolution, a 1x1 convolution and the identity, each with batch norm,
are one 3x3 convolution (RepVGG); so are 3x3, 1x3 and 3x1 (ACNet), and average pooling (DBB). Kernels are laid over each other where their
taps fall on the same pixels. Exact: new weights are computed in float64 and rounded once.

Cost: that of the largest kernel alone.
References: Ding et al. 2021, RepVGG, arXiv:2101.03697, section 3.3; Ding et al. 2019, ACNet, arXiv:1908.03930, section 3.2; Ding et al.
2021, Diverse Branch Block, arXiv:2103.13425, transforms I, II, V and VI.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from convsmith.errors import UnsupportedError
from convsmith.graph import Graph, Node, Shape, infer_shapes, prune, replace_node
from convsmith.redesign.edit import Edit
from convsmith.redesign.fold import scale_and_shift
from convsmith.redesign.layer import Convolution, Names, geometry, producer, read, reason_against, sole_reader

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Branch:
    """A linear function of the value ``source``, as a convolution."""

    source: str
    layer: Convolution


def apply(graph: Graph, edit: Edit) -> Graph:
    """Merge the operands of the addition ``node``; without a node all that can be merged, as often as something can."""
    if edit.node:
        merged = merge(graph, graph.node(edit.node), infer_shapes(graph))
        if merged is None:
            raise UnsupportedError(f"node {edit.node!r} adds no two linear branches of the same input that nothing else reads")
        return merged
    changed = True
    while changed:
        changed, shapes = False, infer_shapes(graph)
        for node in graph:
            merged = merge(graph, node, shapes)
            if merged is not None:
                graph, changed = merged, True
                break
    return graph


def propose(graph: Graph) -> list[Edit]:
    """Propose to merge all, where something can be merged."""
    shapes = infer_shapes(graph)
    return [Edit("merge")] if any(merge(graph, node, shapes) is not None for node in graph) else []


def merge(graph: Graph, node: Node, shapes: dict[str, Shape]) -> Graph | None:
    """Return the graph with the addition as one convolution, None where that cannot be."""
    if (
        node.op != "Add"
        or len(set(node.inputs)) != 2
        or shapes[node.inputs[0]] != shapes[node.inputs[1]]
        or len(shapes[node.inputs[0]]) != 4
    ):
        return None
    first, second = (branch(graph, name, shapes) for name in node.inputs)
    # the identity: an operand that is itself the source of the other
    if second is not None and second.source == node.inputs[0]:
        first = identity(node, node.inputs[0], shapes)
    elif first is not None and first.source == node.inputs[1]:
        second = identity(node, node.inputs[1], shapes)
    if first is None or second is None or first.source != second.source:
        return None
    together = added(first.layer, second.layer)
    if together is None:
        return None
    dtype = next(iter(graph.weights.values())).dtype
    names = Names(graph)
    weight, bias = names.new(f"{node.name}.weight"), names.new(f"{node.name}.bias")
    conv = Node(node.name, "Conv", (first.source, weight, bias), node.outputs, geometry(together))
    assert together.bias is not None
    arrays = {weight: together.w_kcrs.astype(dtype), bias: together.bias.astype(dtype)}
    return prune(replace_node(graph, node.name, (conv,), arrays))


def branch(graph: Graph, value: str, shapes: dict[str, Shape]) -> Branch | None:
    """Return what makes a value that only the addition reads, None when that is not linear."""
    node = producer(graph, value)
    if node is None or sole_reader(graph, value) is None:
        return None
    if node.op == "Conv" and reason_against(graph, node) is None:
        return Branch(node.inputs[0], read(graph, node))
    if node.op == "AveragePool":
        return pooling(node, shapes)
    if node.op != "BatchNormalization" or any(name not in graph.weights for name in node.inputs[1:]):
        return None
    scale, shift = scale_and_shift(graph.weights, node)
    before = branch(graph, node.inputs[0], shapes)
    if before is None:
        before = identity(node, node.inputs[0], shapes)
    layer = before.layer
    bias = np.zeros(len(scale)) if layer.bias is None else layer.bias
    scaled = dataclasses.replace(layer, w_kcrs=layer.w_kcrs * scale[:, None, None, None], bias=bias * scale + shift)
    return Branch(before.source, scaled)


def identity(node: Node, source: str, shapes: dict[str, Shape]) -> Branch:
    """Return the function that gives what it is given."""
    count = shapes[source][1]
    return Branch(source, Convolution(node, np.ones((count, 1, 1, 1)), None, groups=count))


def pooling(node: Node, shapes: dict[str, Shape]) -> Branch | None:
    """Return average pooling as a depthwise convolution, None where border pixels are averaged over fewer."""
    a: Any = node.attributes
    pads = tuple(a.get("pads", (0, 0, 0, 0)))
    if a.get("auto_pad", "NOTSET") != "NOTSET" or a.get("ceil_mode", 0) or (any(pads) and not a.get("count_include_pad", 0)):
        return None
    count, kernel = shapes[node.inputs[0]][1], tuple(a["kernel_shape"])
    weight = np.full((count, 1, *kernel), 1 / np.prod(kernel))
    return Branch(node.inputs[0], Convolution(node, weight, None, tuple(a.get("strides", (1, 1))), pads, groups=count))


def added(one: Convolution, other: Convolution) -> Convolution | None:
    """Return the sum of two convolutions of the same input as one, None when their taps cannot lie on one grid."""
    dilations = tuple(a if k > 1 else b for a, b, k in zip(one.dilations, other.dilations, one.kernel, strict=True))
    apart = any(k > 1 and d != common for k, d, common in zip(other.kernel, other.dilations, dilations, strict=True))
    if one.strides != other.strides or apart:
        return None
    groups = one.groups if one.groups == other.groups else int(np.gcd(one.groups, other.groups))
    begins = [max(a, b) for a, b in zip(one.pads[:2], other.pads[:2], strict=True)]
    if any((b - p) % d for layer in (one, other) for b, p, d in zip(begins, layer.pads[:2], dilations, strict=True)):
        return None
    offsets = [[(b - p) // d for b, p, d in zip(begins, layer.pads[:2], dilations, strict=True)] for layer in (one, other)]
    kernel = [max(o[axis] + layer.kernel[axis] for o, layer in zip(offsets, (one, other), strict=True)) for axis in (0, 1)]
    whole = np.zeros((one.outputs, one.inputs // groups, *kernel))
    for (y, x), layer in zip(offsets, (one, other), strict=True):
        whole[:, :, y : y + layer.kernel[0], x : x + layer.kernel[1]] += regrouped(layer, groups)
    # the last tap of the last window stays where it was, so that as many windows fit
    ends = [one.pads[2 + axis] + (kernel[axis] - offsets[0][axis] - one.kernel[axis]) * dilations[axis] for axis in (0, 1)]
    bias = sum((layer.bias for layer in (one, other) if layer.bias is not None), np.zeros(one.outputs))
    return Convolution(one.node, whole, bias, one.strides, (begins[0], begins[1], ends[0], ends[1]), (dilations[0], dilations[1]), groups)


def regrouped(layer: Convolution, groups: int) -> Array:
    """Return the weights for fewer groups, zeros between what was apart."""
    if layer.groups == groups:
        return layer.w_kcrs
    inside = layer.groups // groups
    outputs, few = layer.outputs // layer.groups, layer.inputs // layer.groups
    whole = np.zeros((layer.outputs, layer.inputs // groups, *layer.kernel))
    for group in range(layer.groups):
        place = group % inside
        rows = slice(group * outputs, (group + 1) * outputs)
        whole[rows, place * few : (place + 1) * few] = layer.w_kcrs[rows]
    return whole
