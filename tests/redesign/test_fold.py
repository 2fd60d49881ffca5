"""Folding batch normalisation changes weights and nodes, not outputs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from convsmith import models
from convsmith.compiler import interpret
from convsmith.graph import Graph, Node, Value
from convsmith.interop import pytorch
from convsmith.redesign import fold_batch_norm


def with_statistics(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for part in module.modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
            part.running_mean.normal_(0, 0.3, generator=generator)
            part.running_var.uniform_(0.2, 3, generator=generator)
            part.weight.data.uniform_(-2, 2, generator=generator)
            part.bias.data.normal_(0, 1, generator=generator)
    return module.eval()


def outputs_agree(before: Graph, after: Graph, x: np.ndarray) -> None:
    """Compare in float64: what remains is the rounding of the new weights to float32, 6e-8 each."""
    y, z = interpret(before)(x.astype(np.float64)), interpret(after)(x.astype(np.float64))
    np.testing.assert_allclose(z, y, rtol=0, atol=2e-6 * np.abs(y).max())
    assert after.outputs == before.outputs


LAYERS: dict[str, tuple[Callable[[], nn.Module], list[str]]] = {
    "conv": (lambda: nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.BatchNorm2d(6)), ["Conv"]),
    "conv_without_bias": (lambda: nn.Sequential(nn.Conv2d(4, 6, 3, groups=2, bias=False), nn.BatchNorm2d(6), nn.ReLU()), ["Conv", "Relu"]),
    "transposed": (lambda: nn.Sequential(nn.ConvTranspose2d(4, 6, 3, 2), nn.BatchNorm2d(6)), ["ConvTranspose"]),
    "linear": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(256, 5), nn.BatchNorm1d(5)), ["Flatten", "Gemm"]),
    "grouped_transposed": (
        lambda: nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=2), nn.BatchNorm2d(6)),
        ["ConvTranspose", "BatchNormalization"],
    ),
    "before": (lambda: nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3, padding=1)), ["BatchNormalization", "Conv"]),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_fold_where_it_is_the_same_function(name: str) -> None:
    torch.manual_seed(0)
    make, operators = LAYERS[name]
    graph = pytorch.read(with_statistics(make()), (1, 4, 8, 8))
    folded = fold_batch_norm(graph)
    assert [node.op for node in folded] == operators
    outputs_agree(graph, folded, np.random.default_rng(0).normal(size=(2, 4, 8, 8)))


def test_folded_numbers_by_hand() -> None:
    weights = {
        "w": np.full((1, 1, 1, 1), 3, np.float32),
        "b": np.asarray([1], np.float32),
        "gamma": np.asarray([4], np.float32),
        "beta": np.asarray([5], np.float32),
        "mean": np.asarray([2], np.float32),
        "variance": np.asarray([3], np.float32),
    }
    nodes = (
        Node("conv", "Conv", ("x", "w", "b"), ("conv",)),
        Node("norm", "BatchNormalization", ("conv", "gamma", "beta", "mean", "variance"), ("y",), {"epsilon": 1.0}),
    )
    folded = fold_batch_norm(Graph("g", (Value("x", (-1, 1, 2, 2)),), (Value("y", (-1, 1, 2, 2)),), nodes, weights))
    # scale 4 / sqrt(3 + 1) = 2: weight 3 * 2, bias (1 - 2) * 2 + 5
    assert {name: array.item() for name, array in folded.weights.items()} == {"w": 6, "b": 3}
    assert [(node.name, node.outputs) for node in folded] == [("conv", ("y",))]


@pytest.mark.parametrize(("name", "size"), [("resnet20", 32), ("mobilenet_v2", 32)])
def test_whole_networks_fold(name: str, size: int) -> None:
    torch.manual_seed(0)
    module = models.load(name, classes=5, input_size=(size, size))
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 2)
    graph = pytorch.read(module.eval(), (1, 3, size, size))
    folded = fold_batch_norm(graph)
    norms = sum(node.op == "BatchNormalization" for node in graph)
    assert norms > 10 and not any(node.op == "BatchNormalization" for node in folded)
    assert len(folded.nodes) == len(graph.nodes) - norms
    outputs_agree(graph, folded, np.random.default_rng(0).normal(size=(1, 3, size, size)))


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.first, self.second = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(self.second(self.conv(self.first(self.conv(x)))))


def test_shared_weights_are_copied() -> None:
    torch.manual_seed(0)
    graph = pytorch.read(with_statistics(Shared()), (1, 4, 8, 8))
    folded = fold_batch_norm(graph)
    assert [node.op for node in folded] == ["Conv"] * 3
    np.testing.assert_array_equal(folded.weights["conv.weight"], graph.weights["conv.weight"])
    outputs_agree(graph, folded, np.random.default_rng(0).normal(size=(2, 4, 8, 8)))


class Tapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return y + self.norm(y)


def test_a_layer_that_others_read_stays() -> None:
    graph = pytorch.read(with_statistics(Tapped()), (1, 4, 8, 8))
    assert fold_batch_norm(graph) == graph
