"""The default architecture by image size."""

from __future__ import annotations

import numpy as np
import pytest
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
