"""Generated pictures for the tests of this room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

Picture = Callable[..., NDArray[np.uint8]]
MakeFolder = Callable[..., Path]


def random_picture(seed: int, height: int = 12, width: int = 12, channels: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def save(path: Path, pixels: NDArray[np.uint8], **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(path, **options)
    return path


@pytest.fixture
def picture() -> Picture:
    """A function of (seed, height, width, channels) to random uint8 pixels."""
    return random_picture


@pytest.fixture
def class_folder(tmp_path: Path) -> MakeFolder:
    """A function that writes PNG class folders: ``class_folder({"cat": 5, "dog": 5}, under="train")``."""

    def make(classes: dict[str, int], under: str = "", height: int = 12, width: int = 12, channels: int = 3, seed: int = 0) -> Path:
        root = tmp_path / "photos"
        for number, (label, count) in enumerate(sorted(classes.items())):
            folder = root / under / label
            folder.mkdir(parents=True, exist_ok=True)
            for index in range(count):
                pixels = random_picture(seed + 1000 * number + index, height, width, channels)
                save(folder / f"{index:03}.png", pixels)
        return root

    return make
