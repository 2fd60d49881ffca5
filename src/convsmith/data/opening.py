"""Recognise a source of images by what it is, and open it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from convsmith.data import idx
from convsmith.data.bundled import open_digits
from convsmith.data.dataset import Dataset, Split, SplitName, source_name
from convsmith.data.decode import MAX_PIXELS
from convsmith.data.folder import arrange, walk
from convsmith.data.scan import Progress, scan
from convsmith.data.source import PARTS, Source, without_empty_classes
from convsmith.data.split import divide
from convsmith.errors import DataError


def open(
    path: str | Path,
    *,
    val: float = 0.2,
    test: float = 0.2,
    seed: int = 0,
    progress: Progress | None = None,
    max_pixels: int = MAX_PIXELS,
    workers: int | None = None,
) -> Dataset:
    """Open labelled images and split them; nothing in ``path`` is ever changed.

    ``path``: a folder of class folders (with or without train, val, test), a CSV of path,label, a folder of idx or CIFAR files,
    an npz file, a tar or zip archive of class folders, or ``digits``.
    ``val``, ``test``: the parts to carve out where the source gives none; a given part is kept. 0 carves none.
    ``workers``: processes that look at the files; by default one a processor when there are many files, else none.
    ``progress``: called with (done, total) files.

    Raises: DataError with a sentence that says what is wrong and what to do.
    """
    source = without_empty_classes(read(path, progress=progress, max_pixels=max_pixels, workers=workers))
    division = divide(source, val, test, seed)
    splits: dict[SplitName, Split] = {}
    for number, part in enumerate(PARTS):
        rows = np.flatnonzero(division.part == number)
        if len(rows):
            splits[part] = source.take(rows)
    return Dataset(
        name=source.name,
        source=source.origin,
        classes=source.classes,
        channels=source.channels,
        splits=splits,
        problems=source.problems + division.problems,
        notes=source.notes + division.notes,
    )


def read(path: str | Path, *, progress: Progress | None = None, max_pixels: int = MAX_PIXELS, workers: int | None = None) -> Source:
    """Read a source of any kind, without splitting it."""
    if str(path) == "digits" and not Path(path).exists():
        return _whole(open_digits(), progress)
    path = Path(path).expanduser()
    if not path.exists():
        raise DataError(f"there is no {str(path)!r}; give a folder of class folders, a CSV, an npz, idx or CIFAR files, or 'digits'")
    if path.is_dir():
        reader = _folder_reader(path)
        if reader:
            return _whole(reader(path), progress)
        listing = arrange(walk(path), str(path))
        return scan(source_name(path), str(path), listing, max_pixels, workers, progress)
    raise DataError(f"{str(path)!r} is not a source of images that is read")


def _folder_reader(path: Path) -> Callable[[Path], Source] | None:
    names = [child.name for child in path.iterdir() if child.is_file()]
    if any(idx.is_idx_name(name) for name in names):
        return idx.open_idx
    return None


def _whole(source: Source, progress: Progress | None) -> Source:
    if progress:
        progress(len(source), len(source))
    return source
