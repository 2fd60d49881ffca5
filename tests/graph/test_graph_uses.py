"""The makers and readers of values, against the functions that look through the whole graph."""

from __future__ import annotations

import numpy as np

from convsmith.graph import Graph, Node, Uses, Value, reads


def test_uses_are_those_of_the_whole_graph() -> None:
    nodes = (
        Node("double", "Add", ("x", "x"), ("twice",)),
        Node("halves", "Split", ("twice",), ("left", "right")),
        Node("sum", "Add", ("left", "w"), ("y",)),
        Node("clip", "Clip", ("y", "", "w"), ("z",)),
    )
    graph = Graph("uses", (Value("x", (2,)),), (Value("y", (1,)), Value("z", (1,))), nodes, {"w": np.ones((), np.float32)})
    uses = Uses(graph)
    for value in ("x", "w", "twice", "left", "right", "y", "z", "nothing"):
        assert uses.readers(value) == reads(graph, value)
        assert uses.producers.get(value) == next((node for node in graph if value in node.outputs), None)
    assert uses.outputs == {"y", "z"}
    assert [value for value in ("x", "w", "twice", "left", "right", "y", "z") if uses.alone(value)] == ["x", "twice", "left"]
