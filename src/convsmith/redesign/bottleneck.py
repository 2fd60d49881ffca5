"""A convolution becomes a bottleneck: 1x1 to ``width`` channels, the old kernel on them, 1x1 back.

Without activation it is Tucker-2 with both ranks the same and starts as the nearest one. With ``activation`` "relu" the block of residual
networks, which can compute what no single convolution can: it is another function at first and must be trained.

Cost: ``width (in Hin Win + (N M width + out) H W)`` multiplications instead of ``N M in out H W``.
References: He et al. 2016, arXiv:1512.03385, section 4.1 and figure 5.
"""

from __future__ import annotations

import dataclasses

from convsmith.errors import UsageError
from convsmith.graph import Graph, Node, reads, replace_node
from convsmith.redesign import tucker
from convsmith.redesign.edit import Edit
from convsmith.redesign.layer import Names, chain, convolution, convolutions, require_at_most, require_dense
from convsmith.redesign.ranks import ladder
from convsmith.redesign.tensors import tucker2

ACTIVATIONS = ("none", "relu")


def apply(graph: Graph, edit: Edit) -> Graph:
    """Replace a convolution by three with ``width`` channels between them, with ReLUs where ``activation`` is relu."""
    layer, width = convolution(graph, edit), edit.whole("width")
    activation = edit.settings.get("activation", "none")
    if activation not in ACTIVATIONS:
        raise UsageError(f"edit 'bottleneck' of node {edit.node!r} has activation {activation!r}; allowed are {', '.join(ACTIVATIONS)}")
    require_dense(layer, edit.kind)
    require_at_most(edit, "width", width, min(layer.inputs, layer.outputs))
    core, outputs, inputs = tucker2(layer.w_kcrs, width, width)
    before = {node.name for node in graph}
    changed = chain(graph, layer, tucker.parts(layer, inputs.T, core, outputs))
    if activation == "relu":
        for node in [node for node in changed if node.name not in before]:
            changed = activated(changed, node)
    return changed


def activated(graph: Graph, node: Node) -> Graph:
    """Put a ReLU after a node of one output."""
    value = node.outputs[0]
    name = Names(graph).new(f"{node.name}.relu")
    names = {reader.name for reader in reads(graph, value)}
    graph = replace_node(graph, node.name, (node, Node(name, "Relu", (value,), (name,))))
    for reader in [reader for reader in graph if reader.name in names]:
        inputs = tuple(name if source == value else source for source in reader.inputs)
        graph = replace_node(graph, reader.name, (dataclasses.replace(reader, inputs=inputs),))
    return graph


def propose(graph: Graph) -> list[Edit]:
    """Propose widths of a quarter, three eighths and half of the channels."""
    edits = []
    for layer in convolutions(graph):
        if layer.groups == 1 and layer.kernel != (1, 1):
            least = min(layer.inputs, layer.outputs)
            whole = layer.kernel[0] * layer.kernel[1] * layer.inputs * layer.outputs
            widths = ladder(least, [least / 4, least * 3 / 8, least / 2])
            cheaper = [width for width in widths if tucker.multiplications(layer, width, width) < whole]
            edits += [Edit("bottleneck", layer.node.name, {"width": width}) for width in cheaper]
    return edits
