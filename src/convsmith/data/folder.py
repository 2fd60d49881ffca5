"""A tree of image files: one folder a class, with or without train, val and test above."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from convsmith.data.dataset import Problem
from convsmith.data.decode import Encoded
from convsmith.data.source import FREE, PART_NAMES, PARTS
from convsmith.errors import DataError

# a folder to visit: its path, its parts, the device and inode of every folder above it
Stop = tuple[str, tuple[str, ...], frozenset[tuple[int, int]]]
SILENT = ("thumbs.db", "desktop.ini", "__macosx")


@dataclass(frozen=True, slots=True)
class Entry:
    """One file that claims to be a labelled image. ``given``: index into ``PARTS`` or ``FREE``."""

    name: str
    source: Encoded
    label: str
    given: int = FREE


@dataclass
class Tree:
    """Files as ``(path parts, source)`` in sorted order, folders without files, and what could not be walked."""

    files: list[tuple[tuple[str, ...], Encoded]] = field(default_factory=list)
    folders: set[tuple[str, ...]] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    hidden: int = 0


@dataclass(frozen=True)
class Listing:
    """What a source announces, before any file is looked at."""

    entries: Sequence[Entry]
    classes: tuple[str, ...]
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()


def is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in SILENT


def walk(root: Path) -> Tree:
    """Walk a folder, through symbolic links, without ever entering a folder inside itself.

    Raises: DataError when the root itself cannot be listed.
    """
    tree = Tree()
    try:
        with os.scandir(root):
            pass
    except OSError as error:
        raise DataError(f"the folder {str(root)!r} cannot be read ({error.strerror}); check its permissions") from error
    ahead: list[Stop] = [(str(root), (), frozenset())]
    while ahead:
        ahead += _visit(*ahead.pop(), tree)
    tree.files.sort(key=lambda file: file[0])
    return tree


def _visit(folder: str, parts: tuple[str, ...], above: frozenset[tuple[int, int]], tree: Tree) -> list[Stop]:
    """Add the files of one folder to the tree and return its folders."""
    try:
        here = os.stat(folder)  # noqa: PTH116 a str all the way: 100,000 Path objects cost a second
        identity = (here.st_dev, here.st_ino)
        if identity in above:
            tree.problems.append(Problem("/".join(parts), "loop", "a symbolic link to a folder above it; not entered"))
            return []
        with os.scandir(folder) as listing:
            children = sorted(listing, key=lambda child: child.name)
    except OSError as error:
        tree.problems.append(Problem("/".join(parts), "unreadable", f"the folder cannot be read ({error.strerror})"))
        return []
    tree.folders.add(parts)
    below = above | {identity}
    folders: list[Stop] = []
    for child in children:
        if is_hidden(child.name):
            tree.hidden += 1
        elif _is_folder(child, (*parts, child.name), tree):
            folders.append((child.path, (*parts, child.name), below))
    return folders[::-1]


def _is_folder(child: os.DirEntry[str], parts: tuple[str, ...], tree: Tree) -> bool:
    """Tell a folder; a file goes into the tree, anything else among its problems."""
    try:
        mode = child.stat().st_mode
    except OSError as error:
        reason = "a symbolic link to nothing" if child.is_symlink() else f"it cannot be looked at ({error.strerror})"
        tree.problems.append(Problem("/".join(parts), "unreadable", reason))
        return False
    if stat.S_ISREG(mode):
        tree.files.append((parts, child.path))
    elif not stat.S_ISDIR(mode):
        tree.problems.append(Problem("/".join(parts), "unreadable", "not a regular file (a pipe, socket or device)"))
    return stat.S_ISDIR(mode)


def arrange(tree: Tree, origin: str) -> Listing:
    """Read labels and parts off the paths: ``[part/]class/.../file``.

    The top folders are parts when ``train`` and val or test are among them, or nothing else is there, and they have folders inside.

    Raises: DataError when there is no class folder.
    """
    tops = sorted({parts[0] for parts in tree.folders if parts})
    depth = 1 if _are_parts(tree, tops) else 0
    entries, stray, ignored = [], 0, set()
    for parts, source in tree.files:
        given = PART_NAMES.get(parts[0].lower(), None) if depth else FREE
        if len(parts) <= depth + 1:
            stray += 1
        elif given is None:
            ignored.add(parts[0])
        else:
            entries.append(Entry("/".join(parts), source, parts[depth], given))
    folders = {parts[depth] for parts in tree.folders if len(parts) == depth + 1 and (not depth or parts[0].lower() in PART_NAMES)}
    classes = in_order(folders)
    if not classes:
        raise DataError(_no_classes(origin, stray))
    notes = []
    if stray:
        notes.append(f"{stray} {'file lies' if stray == 1 else 'files lie'} beside the class folders, not in one; ignored")
    if tree.hidden:
        notes.append(f"{tree.hidden} hidden {'file or folder' if tree.hidden == 1 else 'files or folders'} ignored")
    if ignored:
        notes.append(f"folders that are no part ignored: {', '.join(sorted(ignored))}")
    return Listing(entries, classes, tuple(tree.problems), tuple(notes))


def _are_parts(tree: Tree, tops: Sequence[str]) -> bool:
    found = {PART_NAMES[top.lower()]: top for top in tops if top.lower() in PART_NAMES}
    nested = {parts[0] for parts in tree.folders if len(parts) == 2}
    return bool(found) and nested.issuperset(found.values()) and (len(found) == len(tops) or (0 in found and len(found) > 1))


def _no_classes(origin: str, stray: int) -> str:
    what = f"has {stray} files but no class folders" if stray else "is empty"
    advice = f"put the images of each class in a folder named after it (optionally under {'/'.join(PARTS)}), or give a CSV of path,label"
    return f"{origin} {what}; {advice}"


def in_order(labels: Iterable[str]) -> tuple[str, ...]:
    """Return class names sorted, by number when all are whole numbers."""
    unique = sorted(set(labels))
    return tuple(sorted(unique, key=int)) if all(name.isascii() and name.isdigit() for name in unique) else tuple(unique)
