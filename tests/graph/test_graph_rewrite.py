"""Pure changes of graphs."""

from __future__ import annotations

import numpy as np
import pytest

from convsmith.compiler import interpret
from convsmith.errors import UsageError
from convsmith.graph import Graph, Node, Value, fold_constants, prune, reads, remove_node, rename, replace_node, with_weights

X = np.linspace(-2, 2, 12, dtype=np.float32).reshape(2, 6)


def chain() -> Graph:
    nodes = (
        Node("fc", "Gemm", ("x", "w"), ("fc",), {"transB": 1}),
        Node("relu", "Relu", ("fc",), ("relu",)),
        Node("twice", "Add", ("relu", "relu"), ("twice",)),
    )
    weights = {"w": np.arange(18, dtype=np.float32).reshape(3, 6)}
    return Graph("g", (Value("x", (-1, 6)),), (Value("twice", (-1, 3)),), nodes, weights)


def test_remove_node_reconnects_its_readers() -> None:
    graph = remove_node(chain(), "relu")
    assert [node.name for node in graph] == ["fc", "twice"]
    np.testing.assert_array_equal(interpret(graph)(X), 2 * X @ chain().weights["w"].T)


def test_removed_output_keeps_the_outputs_name() -> None:
    graph = remove_node(chain(), "twice")
    assert graph.outputs == chain().outputs
    np.testing.assert_array_equal(interpret(graph)(X), np.maximum(X @ chain().weights["w"].T, 0))


def test_a_node_on_the_input_alone_cannot_be_removed() -> None:
    graph = Graph("g", (Value("x", (2,)),), (Value("y", (2,)),), (Node("r", "Relu", ("x",), ("y",)),), {})
    with pytest.raises(UsageError, match="node 'r' makes the graph's output from an input"):
        remove_node(graph, "r")


def test_replace_node_drops_weights_nobody_reads() -> None:
    new = (Node("narrow", "Gemm", ("x", "a"), ("narrow",)), Node("wide", "Gemm", ("narrow", "b"), ("fc",)))
    graph = replace_node(chain(), "fc", new, {"a": np.ones((6, 2), np.float32), "b": np.ones((2, 3), np.float32)})
    assert set(graph.weights) == {"a", "b"}
    np.testing.assert_allclose(interpret(graph)(X), np.maximum(4 * X.sum(1, keepdims=True), 0) * np.ones(3), rtol=1e-6)


def test_rename_changes_every_occurrence_and_nothing_else() -> None:
    graph = rename(chain(), {"relu": "activation", "w": "weight", "x": "image", "twice": "logits"})
    assert [node.name for node in graph] == ["fc", "activation", "logits"]
    assert graph.node("logits").inputs == ("activation", "activation")
    assert (graph.inputs[0].name, graph.outputs[0].name, set(graph.weights)) == ("image", "logits", {"weight"})
    np.testing.assert_array_equal(interpret(graph)(X), interpret(chain())(X))


def test_rename_refuses_unknown_and_colliding_names() -> None:
    with pytest.raises(UsageError, match=r"nothing in graph 'g' is named 'rely'. Did you mean 'relu'\?"):
        rename(chain(), {"rely": "a"})
    with pytest.raises(UsageError, match="two values would get the same name"):
        rename(chain(), {"relu": "fc"})


def test_with_weights_checks_name_and_shape() -> None:
    assert with_weights(chain(), {"w": np.zeros((3, 6), np.float32)}).weights["w"].sum() == 0
    with pytest.raises(UsageError, match="graph 'g' has no weight 'v'"):
        with_weights(chain(), {"v": np.zeros(1)})
    with pytest.raises(UsageError, match=r"weight 'w' has shape \(3, 6\), got \(6, 3\)"):
        with_weights(chain(), {"w": np.zeros((6, 3))})


def test_prune_keeps_what_outputs_need() -> None:
    graph = chain()
    dead = Graph(graph.name, graph.inputs, (Value("relu", (-1, 3)),), graph.nodes, {**graph.weights, "unread": np.zeros(1)})
    pruned = prune(dead)
    assert [node.name for node in pruned] == ["fc", "relu"]
    assert set(pruned.weights) == {"w"}


def test_reads_lists_readers_in_order() -> None:
    assert [node.name for node in reads(chain(), "relu")] == ["twice"]


def test_shape_arithmetic_becomes_a_constant_for_any_batch() -> None:
    nodes = (
        Node("doubled", "Add", ("w", "w"), ("doubled",)),
        Node("shape", "Shape", ("x",), ("shape",)),
        Node("batch", "Gather", ("shape", "zero"), ("batch",), {"axis": 0}),
        Node("raised", "Unsqueeze", ("batch", "zeros"), ("raised",)),
        Node("target", "Concat", ("raised", "two", "three"), ("target",), {"axis": 0}),
        Node("y", "Reshape", ("x", "target"), ("y",)),
        Node("z", "Mul", ("y", "doubled"), ("z",)),
    )
    weights = {
        "w": np.ones(3, np.float32),
        "zero": np.asarray(0),
        "zeros": np.asarray([0]),
        "two": np.asarray([2]),
        "three": np.asarray([3]),
    }
    graph = Graph("g", (Value("x", (-1, 6)),), (Value("z", (-1, 2, 3)),), nodes, weights)
    folded = fold_constants(graph)
    assert [node.op for node in folded] == ["Reshape", "Mul"]
    assert folded.weights[folded.node("y").inputs[1]].tolist() == [-1, 2, 3]
    for batch in (1, 2, 3):
        x = np.resize(X, (batch, 6))
        np.testing.assert_array_equal(interpret(folded)(x), interpret(graph)(x))
