"""The order of the passes: what can be done once for a graph, and what needs the sizes of its values."""

from __future__ import annotations

from collections.abc import Mapping

from convsmith.compiler import passes
from convsmith.graph import Graph, Shape, fold_constants, prune
from convsmith.redesign import fold_batch_norm


def simplify(graph: Graph) -> Graph:
    """Return the graph with constants computed, batch normalisation folded, nothing that does nothing, and integer operators.

    ``IntegerConv`` (codes, int8 weights, int32 bias, factors, residual), ``IntegerAdd``, ``IntegerAveragePool`` and ``LookUp`` stand for
    what lies between DequantizeLinear and QuantizeLinear; see ``kernels.integer_operators``. ``PackSigns``, ``BinaryConv``, ``SignPool``
    and ``UnpackSigns`` stand for layers on signs; see ``kernels.sign_operators``.
    """
    plain = prune(passes.drop_identities(fold_batch_norm(fold_constants(graph))))
    return passes.fold_signs(passes.fold_codes(plain))


def fuse(graph: Graph, shapes: Mapping[str, Shape]) -> Graph:
    """Return the graph with what the engine computes in one step as one node; ``shapes`` are those of the graph's values.

    ``FusedConv`` (image, weights, bias, residual) and ``FusedGemm`` have attributes ``activation``, ``low`` and ``high``;
    like ``Silu`` they exist between here and the steps only.
    """
    graph = passes.fuse_padding(passes.recognise_swish(graph))
    graph = passes.fuse_integer_residuals(passes.normalisations_to_convolutions(graph, shapes), shapes)
    return passes.fuse_activations(passes.fuse_residuals(graph, shapes))
