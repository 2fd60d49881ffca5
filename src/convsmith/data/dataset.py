"""What every source of images becomes: named classes, splits that decode one image at a time, and what was left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from convsmith.errors import UsageError

SplitName = Literal["train", "val", "test"]


class Split(Protocol):
    """An ordered list of labelled images. Reading one never changes a file.

    ``labels``: int64 ``(n,)``, an index into ``Dataset.classes``.
    """

    @property
    def labels(self) -> NDArray[np.int64]: ...

    def __len__(self) -> int: ...

    def image(self, index: int) -> NDArray[np.uint8]:
        """Decode image ``index`` upright (EXIF applied) as uint8 ``(height, width, channels)``, channels 1 or 3."""
        ...

    def name(self, index: int) -> str:
        """Return the file path, or ``source[index]`` for images that live in one file."""
        ...

    def size(self, index: int) -> tuple[int, int]:
        """Return ``(height, width)`` of image ``index``, from the header alone where the file has one."""
        ...


@dataclass(frozen=True)
class Problem:
    """A file or image that was left out, or a thing to know, with the reason in words.

    ``kind``: ``unreadable``, ``truncated``, ``empty``, ``missing``, ``too_large`` (left out); ``extension``, ``animated`` (kept);
    ``duplicate``, ``conflict``, ``class`` (either); ``loop`` (a folder).
    ``left_out``: whether the image takes no part.
    """

    name: str
    kind: str
    reason: str
    left_out: bool = True


@dataclass(frozen=True)
class Dataset:
    """Labelled images in up to three splits. ``channels`` is 1 when every image is grey, else 3."""

    name: str
    source: str
    classes: tuple[str, ...]
    channels: int
    splits: Mapping[SplitName, Split]
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def train(self) -> Split:
        if "train" not in self.splits:
            raise UsageError(f"{self.name} has no train part; it has {', '.join(self.splits)}")
        return self.splits["train"]

    @property
    def val(self) -> Split:
        if "val" not in self.splits:
            raise UsageError(f"{self.name} was opened without a validation part; open it with val=0.2, or give a val folder")
        return self.splits["val"]

    @property
    def test(self) -> Split:
        """The held-out test images; the validation images where the source has no third part."""
        return self.splits["test"] if "test" in self.splits else self.val

    def counts(self) -> dict[str, NDArray[np.int64]]:
        """Images of each class in each split: ``{split: int64 (classes,)}``."""
        return {name: np.bincount(split.labels, minlength=len(self.classes)) for name, split in self.splits.items()}


def spread(count: int, most: int = 0) -> NDArray[np.int64]:
    """Return the places of at most ``most`` of ``count`` images, evenly spread from the first to the last; 0 takes all."""
    return np.unique(np.linspace(0, count - 1, min(most or count, count)).astype(np.int64))


def source_name(path: Path) -> str:
    """The short name of a data source: its last path part."""
    return path.resolve().name
