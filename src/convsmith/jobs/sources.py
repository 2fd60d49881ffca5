"""The labelled images of a job: opened with progress, described for the run folder, and found again from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convsmith import runs
from convsmith.errors import DataError, near
from convsmith.jobs.settings import Images

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from convsmith.data.dataset import Dataset, Split
    from convsmith.data.preprocess import Preprocess

CALIBRATION_IMAGES = 256

_KINDS = "a folder of class folders, a CSV of path,label, an npz, idx, CIFAR or SVHN files, or 'digits'"


def require(place: str) -> None:
    """Raise `DataError` when there is no such source, before a run folder is made for it."""
    if place != "digits" and not Path(place).expanduser().exists():
        raise DataError(f"there is no folder or file {place!r}; give labelled images: {_KINDS}.{near(place, ['digits'])}")


def open_images(images: Images, listener: runs.Listener) -> Dataset:
    """Open the images of a job and tell how far it is."""
    from convsmith import data

    return data.open(
        images.data,
        val=images.val,
        test=images.test,
        seed=images.split_seed,
        workers=images.workers or None,
        progress=lambda done, total: listener.progress("open", done, total),
        exclude=images.exclude,
    )


def describe(dataset: Dataset, images: Images) -> dict[str, Any]:
    """Return dataset.json: what was there, what was left out and why, and how to open it again."""
    import numpy as np

    from convsmith import data
    from convsmith.data.input_size import split_sizes

    source = Path(images.data).expanduser()
    place = str(source.absolute()) if source.exists() else images.data
    listed = {"exclude": str(images.exclude.expanduser().absolute())} if images.exclude is not None else {}
    return {
        "name": dataset.name,
        "source": dataset.source,
        "classes": dataset.classes,
        "channels": dataset.channels,
        "counts": dataset.counts(),
        "median_size": [round(side) for side in np.median(split_sizes(dataset.train), axis=0)],
        "problems": [vars(problem) for problem in dataset.problems],
        "notes": dataset.notes,
        "fingerprint": data.fingerprint(dataset),
        "open": images.model_dump(include={"val", "test", "split_seed"}) | {"data": place} | listed,
    }


def reopen(described: Mapping[str, Any], listener: runs.Listener, *, where: str | None = None, workers: int = 0) -> Dataset:
    """Open the images of a run again, from ``where`` when they moved.

    Raises: DataError when they are gone, or are not the images the run was made with.
    """
    from convsmith import data

    images = Images(**{**described["open"], "workers": workers} | ({"data": where} if where else {}))
    try:
        dataset = open_images(images, listener)
    except DataError as error:
        raise DataError(f"the images of this run cannot be opened: {error}") from None
    if data.fingerprint(dataset) != described["fingerprint"]:
        raise DataError(f"{images.data} is not what this run was made with: names, labels or sizes of the images changed since")
    return dataset


def names(split: Split) -> list[str]:
    """Return the names of all images of a split in order."""
    return [split.name(index) for index in range(len(split))]


def pixels(split: Split, preprocess: Preprocess, limit: int, workers: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return up to ``limit`` (0: all) evenly spread images as a network reads them, and their labels."""
    import numpy as np

    from convsmith import data

    rows = data.spread(len(split), limit)
    parts = [data.normalise(x, preprocess) for x, _, _ in data.batches(split, preprocess, 256, order=rows, workers=workers)]
    return np.concatenate(parts), split.labels[rows]
