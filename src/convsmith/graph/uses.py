"""Who makes and who reads each value of a graph, found once for all of them."""

from __future__ import annotations

from convsmith.graph.network import Graph, Node


class Uses:
    """``producers``: the node that writes a value; ``outputs``: the names that the graph returns."""

    def __init__(self, graph: Graph) -> None:
        self.producers = {output: node for node in graph for output in node.outputs}
        self.outputs = {value.name for value in graph.outputs}
        self._readers: dict[str, list[Node]] = {}
        for node in graph:
            for source in dict.fromkeys(node.inputs):
                self._readers.setdefault(source, []).append(node)

    def readers(self, value: str) -> tuple[Node, ...]:
        """Return the nodes that read a value, each once."""
        return tuple(self._readers.get(value, ()))

    def alone(self, value: str) -> bool:
        """Tell whether one node reads a value and nothing else needs it."""
        return len(self.readers(value)) == 1 and value not in self.outputs
