"""Small data and networks for the training tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from convsmith.data.dataset import Dataset
from convsmith.data.preprocess import Preprocess
from convsmith.training import Fit, Training, fit


class ListSplit:
    """Images in a list, as the `Split` protocol asks."""

    def __init__(self, x_nhwc: np.ndarray, labels: np.ndarray) -> None:
        self.x_nhwc, self.labels = x_nhwc, labels.astype(np.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> np.ndarray:
        return self.x_nhwc[index]

    def name(self, index: int) -> str:
        return f"list[{index}]"

    def size(self, index: int) -> tuple[int, int]:
        return self.x_nhwc.shape[1:3]


def bars(n: int, classes: int = 4, side: int = 8, seed: int = 0) -> ListSplit:
    """Noise with one bright row whose height is the class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    x = rng.integers(0, 120, (n, side, side, 1), dtype=np.uint8)
    x[np.arange(n), labels * side // classes + 1] = 255
    return ListSplit(x, labels)


@pytest.fixture
def preprocess() -> Preprocess:
    return Preprocess(8, 8, 1, "squash", mean=(0.3,), std=(0.25,))


@pytest.fixture
def dataset() -> Dataset:
    return Dataset("bars", "made", ("a", "b", "c", "d"), 1, {"train": bars(101), "val": bars(40, seed=1), "test": bars(40, seed=2)})


@pytest.fixture
def make_split() -> Callable[..., ListSplit]:
    return bars


@pytest.fixture
def make_net() -> Callable[..., nn.Module]:
    def build(norm: bool = False, dropout: float = 0.0, seed: int = 0, classes: int = 4) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4) if norm else nn.Identity(),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(64, classes),
        )

    return build


class Stop(Exception):
    """Ends a training from its progress function."""


@pytest.fixture
def stopped_and_resumed(dataset: Dataset, preprocess: Preprocess) -> Callable[..., Fit]:
    """Return a function that trains a network, is stopped after update ``at``, and goes on with a new one from the checkpoint."""

    def run(
        build: Callable[[], nn.Module],
        config: Training,
        folder: Path,
        at: int,
        *,
        images: Dataset = dataset,
        read_by: Preprocess = preprocess,
    ) -> Fit:
        def stop(stage: str, done: float, total: float, **_: object) -> None:
            if stage == "train" and done == at:
                raise Stop

        with pytest.raises(Stop):
            fit(build(), images, config, preprocess=read_by, checkpoints_in=folder, progress=stop)
        return fit(build(), images, config, preprocess=read_by, checkpoints_in=folder, resume=True)

    return run
