"""The images of an experiment: found on disk, chosen, and held in memory as the network reads them."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convsmith import data
from convsmith.data.dataset import Dataset, Split, SplitName
from convsmith.data.images import ResidentSplit
from convsmith.data.preprocess import Preprocess
from convsmith.errors import DataError
from convsmith.training.chance import order
from convsmith.training.reproductions.paper import Experiment, Setup

CHOICE_SEED = 1502
"""Which training images a shortened setup takes: the same for every arm and seed."""


@dataclass(frozen=True)
class Images:
    """The images of one experiment, ``source`` being the file or folder they came from."""

    dataset: Dataset
    preprocess: Preprocess
    source: Path


def locate(name: str, root: Path | None) -> Path:
    """Return where a public data set lies: in ``root``, by default the folder ``data`` below CONVSMITH_DATA, else ``data`` here.

    Of CIFAR-10 the published files win over an archive of class folders.

    Raises: DataError that says where to put the files and how to fetch them.
    """
    home = root if root is not None else Path(os.environ.get("CONVSMITH_DATA", ".")) / "data"
    folder = home.expanduser() / name
    fetch = f"python -c \"from convsmith import data; data.load_public('{name}', '{home}')\""
    if not folder.is_dir() or not any(folder.iterdir()):
        raise DataError(
            f"there is no {name} in {str(folder)!r}; put the published files there, name the folder above it with --data, "
            f"or fetch them once with {fetch}"
        )
    if name != "cifar10":
        return folder
    published = [folder / "cifar-10-batches-py", folder / "cifar-10-batches-bin", folder / "cifar-10-python.tar.gz"]
    archives = sorted(folder.glob("*.tar.gz"))
    return next((path for path in (*published, *archives) if path.exists()), folder)


def open_images(experiment: Experiment, setup: Setup, source: Path, size: tuple[int, int, int]) -> Images:
    """Open the images of an experiment and hold the chosen ones in memory; ``size`` is channels, height and width of the network's input.

    ``source``: what `locate` found, or any other labelled images, which are resized.
    """
    channels, height, width = size
    preprocess = Preprocess(height, width, channels, mean=(experiment.mean,) * channels, std=(experiment.std,) * channels)
    opened = data.open(source, val=setup.val, workers=0)
    splits: dict[SplitName, Split] = dict(opened.splits)
    train = opened.train
    count = min(setup.images or len(train), len(train))
    splits["train"] = resident(train, np.sort(order(len(train), CHOICE_SEED, 0)[:count]), preprocess)
    for part in ("val", "test"):
        if part in splits:
            splits[part] = resident(splits[part], np.arange(len(splits[part])), preprocess)
    return Images(replace(opened, splits=splits), preprocess, source)


def resident(split: Split, rows: NDArray[np.int64], preprocess: Preprocess) -> ResidentSplit:
    """Return some images of a split in memory, at the size that the network reads."""
    x_nhwc = np.concatenate([x for x, _, _ in data.batches(split, preprocess, 512, order=rows)])
    digests = np.zeros(len(rows), np.uint64)
    return ResidentSplit(x_nhwc, np.arange(len(rows)), np.asarray(split.labels)[rows], digests, (("image", 0),))
