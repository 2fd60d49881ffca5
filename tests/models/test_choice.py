"""The default architecture by image size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from convsmith import models
from convsmith.data.dataset import Dataset
from convsmith.data.preprocess import Preprocess


class Grey:
    """Forty-two black images."""

    labels: NDArray[np.int64] = np.arange(42) % 2

    def __len__(self) -> int:
        return 42

    def image(self, index: int) -> NDArray[np.uint8]:
        return np.zeros((8, 8, 1), np.uint8)

    def name(self, index: int) -> str:
        return f"grey[{index}]"

    def size(self, index: int) -> tuple[int, int]:
        return 8, 8


@pytest.mark.parametrize(
    ("height", "width", "name"),
    [
        (4, 30, "mlp"),
        (8, 8, "smallnet"),
        (28, 28, "smallnet"),
        (64, 64, "smallnet"),
        (65, 64, "photonet"),
        (128, 160, "photonet"),
        (20, 200, "smallnet"),
    ],
)
def test_choice_follows_the_size_and_can_be_built(height: int, width: int, name: str) -> None:
    dataset = Dataset("grey", "memory", ("a", "b"), 1, {"train": Grey(), "val": Grey()})
    preprocess = Preprocess(height, width, 1, mean=(0.5,), std=(0.5,))
    chosen, reason = models.choose(dataset, preprocess)
    assert chosen == name
    assert f"{height}x{width} pixels" in reason
    models.load(chosen, classes=2, in_channels=1, input_size=(height, width))


def test_little_time_takes_the_cheaper_network() -> None:
    dataset = Dataset("grey", "memory", ("a", "b"), 1, {"train": Grey(), "val": Grey()})
    preprocess = Preprocess(28, 28, 1, mean=(0.5,), std=(0.5,))
    each_s = 1e-3 * len(dataset.train)
    assert models.choose(dataset, preprocess, 1.01 * each_s)[0] == "smallnet"
    chosen, reason = models.choose(dataset, preprocess, 0.99 * each_s)
    assert chosen == "quicknet"
    assert f"images of {preprocess.height}x{preprocess.width} pixels" in reason


@pytest.mark.parametrize("side", [8, 9, 15, 28, 32, 64])
def test_quicknet_takes_every_small_size(side: int) -> None:
    assert models.load("quicknet", classes=3, in_channels=1, input_size=(side, side))(torch.zeros(2, 1, side, side)).shape == (2, 3)


def test_quicknet_costs_a_sixth_of_smallnet() -> None:
    cost = {name: pytorch_macs(name) for name in ("quicknet", "smallnet")}
    assert cost["quicknet"] == 14 * 14 * 25 * 32 + 49 * 9 * (32 * 48 + 48 * 64) + 64 * 9 * 10
    assert 5 < cost["smallnet"] / cost["quicknet"] < 6.5


def pytorch_macs(name: str) -> int:
    """Multiply-adds of convolutions and linear layers, counted on their outputs."""
    network, total = models.load(name, classes=10, in_channels=1, input_size=(28, 28)), 0

    def count(module: torch.nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal total
        total += output[0].numel() * module.weight[0].numel()

    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            module.register_forward_hook(count)
    network(torch.zeros(1, 1, 28, 28))
    return total
