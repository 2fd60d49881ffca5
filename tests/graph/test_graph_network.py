"""Graphs as values: equality to the bit, copies, and what is refused."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from convsmith.errors import UsageError
from convsmith.graph import Graph, Node, Value, describe


def two_layers(weight: float = 1.0) -> Graph:
    return Graph(
        "pair",
        (Value("x", (-1, 1, 4, 4)),),
        (Value("b", (-1, 1, 4, 4)),),
        (
            Node("a", "Conv", ("x", "w"), ("a",), {"pads": (1, 1, 1, 1), "kernel_shape": (3, 3)}),
            Node("b", "Relu", ("a",), ("b",)),
        ),
        {"w": np.full((1, 1, 3, 3), weight, np.float32)},
    )


def test_equality_is_to_the_bit() -> None:
    assert two_layers() == two_layers()
    assert hash(two_layers()) == hash(two_layers())
    assert two_layers(0.0) != two_layers(-0.0)
    assert two_layers(np.nan) == two_layers(np.nan)
    assert two_layers() != "pair"


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda graph: pickle.loads(pickle.dumps(graph))])
def test_copies_are_equal(duplicate) -> None:
    assert duplicate(two_layers()) == two_layers()


def test_weights_and_attributes_cannot_be_changed() -> None:
    graph = two_layers()
    with pytest.raises(ValueError, match="read-only"):
        graph.weights["w"][0] = 0
    with pytest.raises(TypeError):
        graph.nodes[0].attributes["group"] = 2  # type: ignore[index]


def test_unknown_node_names_the_nearest() -> None:
    graph = Graph("g", (Value("x", (-1, 2)),), (Value("relu", (-1, 2)),), (Node("layer1.relu", "Relu", ("x",), ("relu",)),), {})
    with pytest.raises(UsageError, match=r"no node 'layer1.rely' in graph 'g'. Did you mean 'layer1.relu'\?"):
        graph.node("layer1.rely")


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ((Node("a", "Relu", ("x",), ("y",)), Node("a", "Relu", ("y",), ("z",))), "two nodes are named 'a'"),
        ((Node("a", "Relu", ("q",), ("y",)),), r"node 'a' \(Relu\) reads 'q', which nothing before it produces"),
        ((Node("a", "Relu", ("x",), ("x",)),), r"node 'a' \(Relu\) writes 'x', which exists already"),
        ((Node("a", "Relu", ("x",), ("z",)),), "graph output 'y' is produced by no node"),
    ],
)
def test_inconsistent_graphs_are_refused(nodes: tuple[Node, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Graph("g", (Value("x", (-1, 2)),), (Value("y", (-1, 2)),), nodes, {})


def test_description_has_a_line_a_node() -> None:
    assert describe(two_layers()).splitlines() == [
        "Graph('pair', 2 nodes, 1 weights of 9 numbers)",
        "input x (-1, 1, 4, 4) float32",
        "output b (-1, 1, 4, 4) float32",
        "node  operator  reads         output   attributes",
        "a     Conv      x, [1x1x3x3]  1x1x4x4  pads=1x1x1x1 kernel_shape=3x3",
        "b     Relu      a             1x1x4x4",
    ]
