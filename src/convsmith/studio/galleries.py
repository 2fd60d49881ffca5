"""Labelled images that somebody looks at: opened once, in the background, and kept for the next page."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from convsmith import data, runs
from convsmith.data.dataset import Dataset, Split
from convsmith.data.health import Health
from convsmith.errors import ConvsmithError, DataError
from convsmith.jobs import sources
from convsmith.jobs.configuration import validate
from convsmith.jobs.settings import Images
from convsmith.studio.missing import NotFound

KEPT = 6
MEAN_IMAGES = 500
SIDE_PX = 128

State = Literal["working", "ready", "failed"]


@dataclass
class Work:
    """Something done in a thread: how far it is, what came of it, or why nothing did."""

    state: State = "working"
    done: float = 0
    total: float = 0
    error: str = ""
    found: Any = None

    def told(self) -> dict[str, Any]:
        """Return how far it is."""
        return {"state": self.state, "done": self.done, "total": self.total, "error": self.error}

    def note(self, done: float, total: float) -> None:
        """Note how far it is."""
        self.done, self.total = done, total


@dataclass
class Gallery:
    """A source of images as it is looked at."""

    source: Mapping[str, Any]
    opening: Work = field(default_factory=Work)
    checking: Work | None = None

    @property
    def dataset(self) -> Dataset:
        """The images.

        Raises: DataError when they cannot be opened, or not yet.
        """
        if self.opening.state != "ready":
            raise DataError(self.opening.error or "the images are still being read; ask again in a moment")
        found: Dataset = self.opening.found
        return found

    def split(self, name: str) -> Split:
        """Return a part of the images; `NotFound` when there is none of that name."""
        splits: dict[str, Split] = {str(part): split for part, split in self.dataset.splits.items()}
        if name not in splits:
            raise NotFound(f"{self.dataset.name} has no part {name!r}; it has {', '.join(splits)}")
        return splits[name]

    def image(self, part: str, index: int) -> NDArray[np.uint8]:
        """Decode one image; `NotFound` when there is none of that number."""
        split = self.split(part)
        if not 0 <= index < len(split):
            raise NotFound(f"part {part} has {len(split):,} images, none of number {index}")
        return split.image(index)


class Galleries:
    """The sources looked at last, each opened in a thread of its own."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Gallery] = OrderedDict()
        self._alone = threading.Lock()

    def open(self, source: Mapping[str, Any], *, again: bool = False) -> Gallery:
        """Return a source, which may still be being read. ``source``: settings of `jobs.settings.Images`, the data at least."""
        asked = validate(Images, source)
        key = asked.model_dump_json()
        with self._alone:
            found = self._kept.pop(key, None)
            if found is None or again or found.opening.state == "failed":
                found = Gallery(dict(source))
                _begin(found.opening, lambda: _open(asked, found.opening))
            self._kept[key] = found
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return found

    def check(self, gallery: Gallery) -> Work:
        """Return the check of a source for broken files, duplicates, leaks and doubtful labels, begun when nobody did."""
        with self._alone:
            if gallery.checking is None or gallery.checking.state == "failed":
                work = gallery.checking = Work()
                asked = validate(Images, gallery.source)
                _begin(work, lambda: _check(asked, work))
        assert gallery.checking is not None
        return gallery.checking


def _begin(work: Work, act: Callable[[], Any]) -> None:
    def go() -> None:
        try:
            work.found = act()
            work.state = "ready"
        except ConvsmithError as error:
            work.error, work.state = str(error), "failed"
        except Exception as error:
            work.error, work.state = f"{type(error).__name__}: {error}", "failed"

    threading.Thread(target=go, daemon=True).start()


def _open(asked: Images, work: Work) -> Dataset:
    return sources.open_images(asked, runs.Unrecorded(show=lambda progress: work.note(progress.done, progress.total)))


def _check(asked: Images, work: Work) -> Health:
    return data.check(
        asked.data, val=asked.val, test=asked.test, seed=asked.split_seed, exclude=asked.exclude, progress=work.note, workers=None
    )


def mean_image(split: Split) -> NDArray[np.uint8]:
    """Return the mean of up to 500 evenly spread images, each squashed to one size: uint8 ``(rows, columns, channels)``."""
    rows = data.spread(len(split), MEAN_IMAGES)
    first = split.image(int(rows[0]))
    height, width = (min(SIDE_PX, side) for side in first.shape[:2])
    channels = max(split.image(int(row)).shape[2] for row in rows[:20])
    mean = (0.5,) * channels
    shape = data.Preprocess(height, width, channels, resize="squash", mean=mean, std=mean)
    total = np.zeros((height, width, channels), np.int64)
    for row in rows:
        total += data.resize(split.image(int(row)), shape)
    return np.asarray(np.rint(total / len(rows)), np.uint8)


def rows_of(split: Split, label: int | None) -> NDArray[np.int64]:
    """Return the numbers of the images of a class, of all where there is none."""
    return np.arange(len(split)) if label is None else np.flatnonzero(split.labels == label)
