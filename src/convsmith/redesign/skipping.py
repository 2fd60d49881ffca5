"""A residual block goes: of an addition only one operand stays.

The network reads the other operand no longer, and what only it needed is removed. Exact where the branch gives zero; else the cheapest
edit of all for a block that changes little, since deep residual networks behave like ensembles of shallower ones.

Cost: all multiplications of the branch are saved.
References: Veit, Wilber, Belongie 2016, arXiv:1605.06431, section 4.1 (deleting individual blocks at test time).
"""

from __future__ import annotations

import dataclasses

from convsmith.analysis import analyse
from convsmith.errors import UnsupportedError, UsageError
from convsmith.graph import Graph, Node, infer_shapes, prune, remove_node, replace_node
from convsmith.redesign.edit import Edit


def apply(graph: Graph, edit: Edit) -> Graph:
    """Replace an addition by its operand number ``keep``, 0 or 1."""
    node, keep = graph.node(edit.node), edit.whole("keep", least=0)
    if node.op != "Add" or any(name in graph.weights for name in node.inputs):
        raise UnsupportedError(f"node {node.name!r} ({node.op}) is no addition of two branches; nothing can be skipped")
    if keep > 1:
        raise UsageError(f"edit 'skip' of node {node.name!r} keeps operand {keep}; an addition has 0 and 1")
    shapes = infer_shapes(graph)
    if shapes[node.inputs[0]] != shapes[node.inputs[1]]:
        raise UnsupportedError(
            f"node {node.name!r} adds {shapes[node.inputs[0]]} and {shapes[node.inputs[1]]}; only like shapes can stand alone"
        )
    return prune(skipped(graph, node, keep))


def skipped(graph: Graph, node: Node, keep: int) -> Graph:
    kept = node.inputs[keep]
    alone = dataclasses.replace(node, op="Identity", inputs=(kept,), attributes={})
    graph = replace_node(graph, node.name, (alone,))
    return graph if any(value.name in node.outputs for value in graph.outputs) else remove_node(graph, node.name)


def propose(graph: Graph) -> list[Edit]:
    """Propose to skip the costlier branch of every addition, where the other is a shortcut."""
    edits, whole, shapes = [], analyse(graph).macs, infer_shapes(graph)
    for node in graph:
        inner = node.op == "Add" and not any(name in graph.weights for name in node.inputs)
        if inner and shapes[node.inputs[0]] == shapes[node.inputs[1]]:
            saved = [whole - analyse(prune(skipped(graph, node, keep))).macs for keep in (0, 1)]
            keep = saved.index(max(saved))
            if saved[keep] > 0 == saved[1 - keep]:
                edits.append(Edit("skip", node.name, {"keep": keep}))
    return edits
