"""Tar and zip archives, read into memory without unpacking."""

from __future__ import annotations

import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from convsmith.data.dataset import Problem
from convsmith.data.folder import Tree, is_hidden
from convsmith.data.source import PART_NAMES
from convsmith.errors import DataError, ResourceError

LIMIT_BYTES = 4 << 30
# what the two libraries raise on damaged, encrypted or unknown content
DAMAGE = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, OSError, RuntimeError, NotImplementedError)


def is_archive(path: Path) -> bool:
    try:
        return tarfile.is_tarfile(path) or zipfile.is_zipfile(path)
    except OSError:
        return False


def read_archive(path: Path, limit_bytes: int = LIMIT_BYTES) -> Tree:
    """Read all files of an archive; one folder that wraps everything else is taken off.

    Raises: DataError when the archive is damaged; ResourceError when its files need more than ``limit_bytes``.
    """
    tree = Tree()
    total = 0
    try:
        for name, size_bytes, content in _zip_members(path) if zipfile.is_zipfile(path) else _tar_members(path):
            total += size_bytes
            if total > limit_bytes:
                raise ResourceError(f"{str(path)!r} holds more than {limit_bytes / 2**30:g} GiB; unpack it and give the folder")
            _add(tree, name, content)
    except DAMAGE as error:
        raise DataError(f"{str(path)!r} is a damaged or protected archive ({error}); fetch it again or unpack it") from error
    tree.files.sort(key=lambda file: file[0])
    return _unwrapped(tree)


def _tar_members(path: Path) -> Iterator[tuple[str, int, bytes | None]]:
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isdir():
                yield member.name + "/", 0, b""
                continue
            file = archive.extractfile(member) if member.isreg() else None
            if file is None:
                yield member.name, 0, None
            elif member.size > LIMIT_BYTES:
                yield member.name, member.size, b""
            else:
                yield member.name, member.size, file.read()


def _zip_members(path: Path) -> Iterator[tuple[str, int, bytes | None]]:
    with zipfile.ZipFile(path) as archive:
        if (total := sum(info.file_size for info in archive.infolist())) > LIMIT_BYTES:
            yield "", total, b""
        for info in archive.infolist():
            yield info.filename, info.file_size, archive.read(info)


def _add(tree: Tree, name: str, content: bytes | None) -> None:
    parts = tuple(part for part in PurePosixPath(name).parts if part not in (".", "/"))
    if not parts:
        return
    if any(is_hidden(part) for part in parts):
        tree.hidden += not name.endswith("/")
        return
    is_folder = name.endswith("/")
    for depth in range(len(parts) + is_folder):
        tree.folders.add(parts[:depth])
    if content is None:
        tree.problems.append(Problem("/".join(parts), "unreadable", "not a regular file (a link or device inside an archive)"))
    elif not is_folder:
        tree.files.append((parts, content))


def _unwrapped(tree: Tree) -> Tree:
    tops = {parts[0] for parts, _ in tree.files}
    nested = any(len(parts) == 2 for parts in tree.folders) or all(len(parts) == 2 for parts, _ in tree.files)
    if len(tops) != 1 or not nested or tops & set(PART_NAMES) or any(len(parts) == 1 for parts, _ in tree.files):
        return tree
    return Tree([(parts[1:], source) for parts, source in tree.files], {parts[1:] for parts in tree.folders}, tree.problems, tree.hidden)
