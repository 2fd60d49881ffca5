"""A dense layer, or a 1x1 convolution, becomes two with ``rank`` numbers between them.

The first ``rank`` singular values and vectors of its matrix: the nearest matrix of that rank (Eckart-Young). Exact at full rank.

Cost: ``rank (in + out)`` multiplications, for each pixel, instead of ``in out``.
References: Denton et al. 2014, arXiv:1404.0736, section 3.3; Sainath et al. 2013, ICASSP; Girshick 2015, arXiv:1504.08083, section 3.1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from convsmith.errors import UnsupportedError
from convsmith.graph import Graph, Node, replace_node
from convsmith.redesign.edit import Edit
from convsmith.redesign.layer import Names, Part, chain, convolution, read, reason_against, require_at_most, require_dense
from convsmith.redesign.ranks import energy_rank, ladder, singular_values, variational_rank
from convsmith.redesign.tensors import truncated

Array = np.ndarray[Any, Any]


def apply(graph: Graph, edit: Edit) -> Graph:
    """Replace a dense layer or a 1x1 convolution by two of rank ``rank``."""
    node, rank = graph.node(edit.node), edit.whole("rank")
    matrix = matrix_of(graph, node)
    if matrix is None:
        raise UnsupportedError(f"node {node.name!r} ({node.op}) is no dense layer with constant weights and no 1x1 convolution")
    require_at_most(edit, "rank", rank, min(matrix.shape))
    outputs, inputs = truncated(matrix, rank)
    if node.op != "Conv":
        return dense_pair(graph, node, outputs, inputs)
    layer = convolution(graph, edit)
    require_dense(layer, edit.kind)
    # strides and padding belong to the first: it then has fewer pixels to compute, and zeros stay zeros
    parts = [Part("reduce", inputs[:, :, None, None], layer.strides, layer.pads), Part("expand", outputs[:, :, None, None])]
    return chain(graph, layer, parts)


def dense_pair(graph: Graph, node: Node, outputs: Array, inputs: Array) -> Graph:
    """Put two dense layers in the place of one, ``inputs`` (rank, in) first; the second keeps name and bias."""
    names = Names(graph)
    name, weight = names.new(f"{node.name}.reduce"), names.weight(node.inputs[1])
    first = names.new(f"{name}.weight")
    turned = bool(node.attributes.get("transB", 0))
    dtype = graph.weights[node.inputs[1]].dtype
    arrays = {first: (inputs if turned else inputs.T).astype(dtype), weight: (outputs if turned else outputs.T).astype(dtype)}
    attributes = {"transB": int(turned)} if node.op == "Gemm" else {}
    reduce = Node(name, node.op, (node.inputs[0], first), (name,), attributes)
    expand = Node(node.name, node.op, (name, weight, *node.inputs[2:]), node.outputs, node.attributes)
    return replace_node(graph, node.name, (reduce, expand), arrays)


def matrix_of(graph: Graph, node: Node) -> Array | None:
    """Return the weights as (out, in), None for a node that is not of this kind."""
    a = node.attributes
    weight = graph.weights.get(node.inputs[1]) if len(node.inputs) > 1 else None
    if weight is None or weight.dtype.kind != "f":
        return None
    if node.op == "Gemm" and not a.get("transA", 0) and a.get("alpha", 1) == 1:
        return weight.astype(np.float64) if a.get("transB", 0) else weight.T.astype(np.float64)
    if node.op == "MatMul" and weight.ndim == 2:
        return weight.T.astype(np.float64)
    if node.op == "Conv" and reason_against(graph, node) is None:
        layer = read(graph, node)
        if layer.groups == 1 and layer.kernel == (1, 1):
            return np.ascontiguousarray(layer.w_kcrs[:, :, 0, 0])
    return None


def propose(graph: Graph) -> list[Edit]:
    """Propose the variational rank and those that hold parts of the energy, where they are cheaper than before."""
    edits = []
    for node in graph:
        matrix = matrix_of(graph, node)
        if matrix is None or min(matrix.shape) < 4:
            continue
        values = singular_values(matrix)
        wanted = [energy_rank(values, share) for share in (0.6, 0.8, 0.9, 0.95)] + [variational_rank(values, matrix.shape)]
        most = matrix.size / sum(matrix.shape)
        ranks = ladder(min(int(np.ceil(most)), min(matrix.shape)), wanted)
        edits += [Edit("low_rank", node.name, {"rank": rank}) for rank in ranks if rank < most]
    return edits
