"""When values stop being needed."""

from __future__ import annotations

from convsmith.graph.network import Graph


def dying_values(graph: Graph) -> tuple[tuple[str, ...], ...]:
    """Return, for each node, the values it reads that nothing after it reads; outputs of the graph never die."""
    kept = {value.name for value in graph.outputs} | set(graph.weights) | {""}
    last = {source: index for index, node in enumerate(graph) for source in node.inputs if source not in kept}
    dying: list[list[str]] = [[] for _ in graph.nodes]
    for source, index in last.items():
        dying[index].append(source)
    return tuple(tuple(names) for names in dying)
