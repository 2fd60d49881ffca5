"""Pure changes of a graph: every function returns a new one and leaves the old as it was."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from convsmith.errors import UsageError, near
from convsmith.graph.network import Graph, Node
from convsmith.graph.shapes import infer
from convsmith.kernels import reference

Array = np.ndarray[Any, Any]


def replace_node(graph: Graph, name: str, nodes: tuple[Node, ...], weights: Mapping[str, Array] | None = None) -> Graph:
    """Put ``nodes`` in the place of one node and add their ``weights``; weights that nothing reads any more are dropped.

    Between them the new nodes must write what the old one wrote and something still reads.
    """
    graph.node(name)
    body = tuple(new for node in graph for new in (nodes if node.name == name else (node,)))
    return drop_unread_weights(dataclasses.replace(graph, nodes=body, weights={**graph.weights, **(weights or {})}))


def remove_node(graph: Graph, name: str) -> Graph:
    """Remove a node of one output; its readers read its first input instead. A graph output keeps its name."""
    node = graph.node(name)
    if len(node.outputs) != 1:
        raise UsageError(f"node {name!r} ({node.op}) has {len(node.outputs)} outputs; only a node of one can be removed")
    source, target = node.inputs[0], node.outputs[0]
    rest = tuple(n for n in graph if n.name != name)
    if target not in {value.name for value in graph.outputs}:
        nodes = tuple(_read_as(n, {target: source}) for n in rest)
    elif source in graph.weights or source in {value.name for value in graph.inputs}:
        raise UsageError(f"node {name!r} makes the graph's output from an input; it cannot be removed")
    else:
        nodes = tuple(_renamed(n, {source: target}) for n in rest)
    return drop_unread_weights(dataclasses.replace(graph, nodes=nodes))


def rename(graph: Graph, names: Mapping[str, str]) -> Graph:
    """Rename nodes, values and weights alike: every occurrence of a key becomes its value.

    Raises: ``UsageError`` for a name that occurs nowhere, or one that would then be used twice.
    """
    values = {value.name for value in graph.inputs} | set(graph.weights) | {o for n in graph for o in n.outputs}
    known = values | {node.name for node in graph}
    for old in names:
        if old not in known:
            raise UsageError(f"nothing in graph {graph.name!r} is named {old!r}.{near(old, known)}")
    renamed_values = [names.get(value, value) for value in values]
    if len(set(renamed_values)) != len(renamed_values):
        raise UsageError("two values would get the same name")
    return dataclasses.replace(
        graph,
        inputs=tuple(dataclasses.replace(v, name=names.get(v.name, v.name)) for v in graph.inputs),
        outputs=tuple(dataclasses.replace(v, name=names.get(v.name, v.name)) for v in graph.outputs),
        nodes=tuple(_renamed(dataclasses.replace(n, name=names.get(n.name, n.name)), names) for n in graph),
        weights={names.get(key, key): array for key, array in graph.weights.items()},
    )


def with_weights(graph: Graph, weights: Mapping[str, Array]) -> Graph:
    """Return the graph with some weights replaced; ``UsageError`` for a name it lacks or another shape."""
    for name, array in weights.items():
        if name not in graph.weights:
            raise UsageError(f"graph {graph.name!r} has no weight {name!r}.{near(name, graph.weights)}")
        if array.shape != graph.weights[name].shape:
            raise UsageError(f"weight {name!r} has shape {graph.weights[name].shape}, got {array.shape}")
    return dataclasses.replace(graph, weights={**graph.weights, **weights})


def reads(graph: Graph, value: str) -> tuple[Node, ...]:
    """Return the nodes that read a value."""
    return tuple(node for node in graph if value in node.inputs)


def drop_unread_weights(graph: Graph) -> Graph:
    """Remove weights that no node reads and that are no output."""
    used = {source for node in graph for source in node.inputs} | {value.name for value in graph.outputs}
    return dataclasses.replace(graph, weights={key: array for key, array in graph.weights.items() if key in used})


def prune(graph: Graph) -> Graph:
    """Remove nodes whose outputs nothing reads, and the weights only they read."""
    needed, kept = {value.name for value in graph.outputs}, []
    for node in reversed(graph.nodes):
        if needed & set(node.outputs):
            kept.append(node)
            needed |= set(node.inputs)
    return drop_unread_weights(dataclasses.replace(graph, nodes=tuple(reversed(kept))))


def fold_constants(graph: Graph, *, codes: bool = False) -> Graph:
    """Compute once what does not depend on the inputs: constant expressions, and shape arithmetic for any batch.

    Shape arithmetic is evaluated for two batch sizes; where a reshape's target differs in one place, that place becomes -1. Codes of
    constants stay codes unless ``codes``.
    """
    weights, nodes = dict(graph.weights), []
    for node in graph:
        sources = [source for source in node.inputs if source]
        if (codes or node.op not in ("QuantizeLinear", "DequantizeLinear")) and sources and all(source in weights for source in sources):
            arrays = reference.run(node.op, [weights[s] if s else None for s in node.inputs], node.attributes)
            weights.update(zip(node.outputs, arrays, strict=False))
        else:
            nodes.append(node)
    folded = dataclasses.replace(graph, nodes=tuple(nodes), weights=weights)
    if any(node.op == "Shape" for node in nodes) and all(-1 not in value.shape[1:] for value in graph.inputs):
        folded = _fold_shapes(folded)
    return prune(folded)


def _fold_shapes(graph: Graph) -> Graph:
    (_, small), (_, large) = infer(graph, 2), infer(graph, 3)
    weights, nodes, taken = dict(graph.weights), [], set(graph.weights) | {o for n in graph for o in n.outputs}
    for node in graph:
        inputs = list(node.inputs)
        for index, source in enumerate(inputs):
            if not source or source in graph.weights or source not in small or source not in large:
                continue
            array = _for_any_batch(node, index, small[source], large[source])
            if array is not None:
                name = next(n for n in (f"{source}.constant", f"{node.name}.{index}.constant") if n not in taken or n in weights)
                if name in weights and not np.array_equal(weights[name], array):
                    name = f"{node.name}.{index}.constant"
                weights[name], inputs[index] = array, name
        nodes.append(dataclasses.replace(node, inputs=tuple(inputs)))
    return dataclasses.replace(graph, nodes=tuple(nodes), weights=weights)


def _for_any_batch(node: Node, index: int, small: Array, large: Array) -> Array | None:
    """Return the constant that stands for a computed value whatever the batch, or None when there is none."""
    if small.shape != large.shape:
        return None
    different = np.atleast_1d(small != large)
    if not different.any():
        return small
    if node.op == "Reshape" and index == 1 and different.sum() == 1 and small.ndim == 1:
        return np.where(different, -1, small).astype(np.int64)
    return None


def _read_as(node: Node, names: Mapping[str, str]) -> Node:
    return dataclasses.replace(node, inputs=tuple(names.get(source, source) for source in node.inputs))


def _renamed(node: Node, names: Mapping[str, str]) -> Node:
    return dataclasses.replace(_read_as(node, names), outputs=tuple(names.get(target, target) for target in node.outputs))
