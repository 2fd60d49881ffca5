"""Recognise a source of images by what it is, and open it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np

from convsmith.data.archive import is_archive, read_archive
from convsmith.data.bundled import open_digits
from convsmith.data.cifar import is_cifar, is_cifar_file, open_cifar
from convsmith.data.dataset import Dataset, Split, SplitName, source_name
from convsmith.data.decode import MAX_PIXELS
from convsmith.data.exclusion import without
from convsmith.data.folder import Listing, arrange, walk
from convsmith.data.idx import is_idx_name, open_idx
from convsmith.data.lists import is_list, read_lists
from convsmith.data.npz import open_npz
from convsmith.data.pack import is_pack, open_pack
from convsmith.data.scan import Progress, scan, summary
from convsmith.data.source import PARTS, Source, without_empty_classes
from convsmith.data.split import divide
from convsmith.data.svhn import is_svhn, open_svhn
from convsmith.data.table import is_table, read_table
from convsmith.data.webdataset import is_shard, read_shards
from convsmith.errors import DataError


def open(
    path: str | Path,
    *,
    val: float | None = None,
    test: float = 0.2,
    seed: int = 0,
    progress: Progress | None = None,
    max_pixels: int = MAX_PIXELS,
    workers: int | None = None,
    trainable: bool = True,
    exclude: str | Path | None = None,
) -> Dataset:
    """Open labelled images and split them; nothing in ``path`` is ever changed.

    ``path``: a folder of class folders (with or without train, val, test), a CSV of path,label, a text of path and label
    (``train.txt``), a folder of idx, CIFAR or SVHN files, an npz file, a tar or zip archive of class folders, a pack, WebDataset shards
    (one, or a folder of them), or ``digits``.
    ``val``, ``test``: the parts to carve out where the source gives none; a given part is kept. 0 carves none; without ``val``, a fifth
    but of many images about 5,000.
    ``workers``: processes that look at the files; by default one a processor when there are many files, else none.
    ``progress``: called with (done, total) files.
    ``trainable``: False to look at images only (to evaluate or predict): given parts as they are, any others all in train, and one
    class or a lone test part is no error.
    ``exclude``: a list of images to leave out, as ``convsmith check --list`` writes it.

    Raises: DataError with a sentence that says what is wrong and what to do.
    """
    source = without_empty_classes(without(read(path, progress=progress, max_pixels=max_pixels, workers=workers), exclude))
    if not len(source):
        raise DataError(summary(source.origin, source.problems))
    division = divide(source, val, test, seed, trainable)
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
    """Read a source of any kind, without splitting it.

    Raises: DataError when there is no such source or it is of no known kind.
    """
    if str(path) == "digits" and not Path(path).exists():
        return _counted(open_digits(), progress)
    path = Path(path).expanduser()
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        what = f"there is no {str(path)!r}" if isinstance(error, FileNotFoundError) else f"cannot look at {str(path)!r} ({error})"
        raise DataError(f"{what}; give a folder of class folders, a CSV, an npz, idx, CIFAR or SVHN files, or 'digits'") from error
    content = _folder(path) if stat.S_ISDIR(found.st_mode) else _file(path)
    if isinstance(content, Source):
        return _counted(content, progress)
    return scan(source_name(path), str(path), content, max_pixels, workers, progress)


def _folder(path: Path) -> Source | Listing:
    """Take a folder for idx, CIFAR or SVHN files, for one CSV and its images, or for class folders."""
    try:
        with os.scandir(path) as children:
            names = sorted(child.name for child in children if child.is_file())
    except OSError as error:
        raise DataError(f"the folder {str(path)!r} cannot be read ({error.strerror}); check its permissions") from error
    if any(is_idx_name(name) for name in names):
        return open_idx(path)
    if is_cifar(names):
        return open_cifar(source_name(path), str(path), {name: (path / name).read_bytes() for name in names if is_cifar_file(name)})
    if is_svhn(names):
        return open_svhn(source_name(path), path)
    shards = sorted(path / name for name in names if name.lower().endswith(".tar") and not name.startswith("."))
    if shards and is_shard(shards[0]):
        return read_shards(shards)
    tree = walk(path)
    tables = [name for name in names if is_table(Path(name)) and not name.startswith(".")]
    if len(tables) == 1 and not any(len(parts) > 1 for parts, _ in tree.files):
        return read_table(path / tables[0])
    return arrange(tree, str(path))


def _file(path: Path) -> Source | Listing:
    if is_table(path):
        return read_table(path)
    if is_list(path):
        return read_lists(path)
    if path.suffix.lower() == ".npz":
        return open_npz(path)
    if is_idx_name(path.name):
        return open_idx(path.parent)
    if is_svhn((path.name,)):
        return open_svhn(source_name(path.parent), path.parent)
    if is_pack(path):
        return open_pack(path)
    if path.suffix.lower() == ".tar" and is_shard(path):
        return read_shards([path])
    if is_archive(path):
        tree = read_archive(path)
        members = {parts[-1]: source for parts, source in tree.files if isinstance(source, bytes)}
        if is_cifar(members):
            return open_cifar(path.name.split(".")[0], str(path), {name: raw for name, raw in members.items() if is_cifar_file(name)})
        return arrange(tree, str(path))
    known = "a folder, .csv, .txt, .npz, an idx file, a .mat of SVHN, a pack, or a tar or zip archive"
    raise DataError(f"{str(path)!r} is not a source of images that is read; give {known}")


def _counted(source: Source, progress: Progress | None) -> Source:
    if progress:
        progress(len(source), len(source))
    return source
