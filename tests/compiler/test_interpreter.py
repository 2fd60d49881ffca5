"""The interpreter of reference kernels: a whole network in NumPy, against torch."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch

from convsmith import models
from convsmith.compiler import interpret
from convsmith.errors import UnsupportedError, UsageError
from convsmith.graph import Graph, Node, Value
from convsmith.interop import pytorch
from convsmith.kernels import ALGORITHMS


@pytest.mark.parametrize(
    ("name", "channels", "size"),
    [("smallnet", 1, 28), ("lenet5", 1, 28), ("resnet20", 3, 32), ("mobilenet_v2", 3, 32), ("googlenet", 3, 32)],
)
def test_zoo_networks_equal_torch(name: str, channels: int, size: int) -> None:
    torch.manual_seed(0)
    module = models.load(name, classes=7, in_channels=channels, input_size=(size, size)).eval()
    graph = pytorch.read(module, (1, channels, size, size))
    x = torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        single, double = module(x).numpy(), module.double()(x.double()).numpy()
    program = interpret(graph)
    # float32: sums in another order; float64: the same weights, so an oracle to 1e-12
    np.testing.assert_allclose(program(x.numpy()), single, rtol=0, atol=1e-5 * np.abs(single).max())
    np.testing.assert_allclose(program(x.double().numpy()), double, rtol=0, atol=1e-12 * np.abs(double).max())
    assert program(x.numpy()).dtype == np.float32


def two_convolutions() -> Graph:
    generator = np.random.default_rng(0)
    nodes = (
        Node("first", "Conv", ("x", "w", "b"), ("first",), {"pads": (1, 1, 1, 1)}),
        Node("second", "Conv", ("first", "w"), ("second",), {"strides": (2, 2)}),
    )
    weights = {"w": generator.normal(size=(2, 2, 3, 3)), "b": np.asarray([1.0, 2.0])}
    return Graph("pair", (Value("x", (-1, 2, -1, -1), "float64"),), (Value("first", ()), Value("second", ())), nodes, weights)


def test_algorithms_are_chosen_by_node_and_agree() -> None:
    x = np.random.default_rng(1).normal(size=(2, 2, 6, 5))
    program = interpret(two_convolutions(), {"first": "naive"})
    assert program.algorithms == {"first": "naive", "second": "im2col"}
    for y, z in zip(program(x), interpret(two_convolutions(), default="naive")(x), strict=True):
        np.testing.assert_allclose(y, z, rtol=1e-12, atol=1e-13)


def test_weights_are_prepared_once_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: list[tuple[int, ...]] = []

    def prepare(w_kcrs: np.ndarray, shape: object) -> np.ndarray:
        prepared.append(w_kcrs.shape)
        return w_kcrs

    monkeypatch.setitem(ALGORITHMS, "counted", dataclasses.replace(ALGORITHMS["naive"], name="counted", prepare=prepare))
    program = interpret(two_convolutions(), default="counted")
    for size in (5, 5, 6):
        program(np.zeros((1, 2, size, size)))
    assert len(prepared) == 4


def test_unknown_operators_are_named_before_running() -> None:
    nodes = (Node("a", "Attention", ("x",), ("a",)), Node("b", "Fancy", ("a",), ("y",)))
    graph = Graph("g", (Value("x", (2,)),), (Value("y", (2,)),), nodes, {})
    with pytest.raises(UnsupportedError, match=r"no kernel for Attention \(node 'a'\), Fancy \(node 'b'\); export to ONNX or OpenVINO"):
        interpret(graph)


def test_unknown_algorithms_and_nodes_are_refused() -> None:
    with pytest.raises(UsageError, match=r"no algorithm 'im2cl'; there are naive, im2col.* Did you mean 'im2col'\?"):
        interpret(two_convolutions(), default="im2cl")
    with pytest.raises(UsageError, match=r"'frist' is no convolution of graph 'pair'. Did you mean 'first'\?"):
        interpret(two_convolutions(), {"frist": "naive"})


def test_algorithm_that_cannot_says_so_with_node_and_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ALGORITHMS, "picky", dataclasses.replace(ALGORITHMS["naive"], name="picky", supports=lambda shape: False))
    with pytest.raises(
        UnsupportedError, match=r"node 'first' \(Conv\) cannot take shapes \(1, 2, 5, 5\), .*algorithm 'picky' does not support it"
    ):
        interpret(two_convolutions(), default="picky")(np.zeros((1, 2, 5, 5)))


def test_inputs_are_checked() -> None:
    program = interpret(two_convolutions())
    with pytest.raises(UsageError, match="graph 'pair' takes 1 inputs, got 0"):
        program()
    with pytest.raises(UsageError, match=r"input 'x' has shape \(-1, 2, -1, -1\) \(-1 is any size\), got \(1, 3, 5, 5\)"):
        program(np.zeros((1, 3, 5, 5)))
    nodes = (Node("first", "Conv", ("x", "w"), ("first",)), Node("second", "Relu", ("first",), ("second",)))
    with pytest.raises(UsageError, match=r"node 'first' \(Conv\) cannot take shapes .* does not fit in"):
        interpret(dataclasses.replace(two_convolutions(), nodes=nodes))(np.zeros((1, 2, 2, 2)))


def test_graphs_run_without_torch() -> None:
    code = (
        "import sys, convsmith.graph, convsmith.kernels, convsmith.kernels.reference, convsmith.analysis, convsmith.redesign,"
        " convsmith.compiler, convsmith.interop, convsmith.interop.onnx; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
