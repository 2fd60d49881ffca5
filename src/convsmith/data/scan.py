"""One full look at every listed file, in worker processes when there are many, and what remains of them."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from convsmith.data.dataset import Problem
from convsmith.data.decode import Encoded, Look, inspect
from convsmith.data.folder import Entry, Listing
from convsmith.data.source import Source
from convsmith.data.workers import in_turn, sensible

Progress = Callable[[int, int], None]
CHUNK = 32


def scan(name: str, origin: str, listing: Listing, max_pixels: int, workers: int | None, progress: Progress | None) -> Source:
    """Look at every entry and return the usable ones (perhaps none); the others are among the problems."""
    looks = _looks(listing.entries, max_pixels, workers, progress)
    good: list[tuple[Entry, Look]] = []
    problems = list(listing.problems)
    for entry, look in zip(listing.entries, looks, strict=True):
        if look.kind:
            problems.append(Problem(entry.name, look.kind, look.reason, left_out=not look.height))
        if look.height:
            good.append((entry, look))
    return _source(name, origin, listing, good, problems, max_pixels)


def _looks(entries: Sequence[Entry], max_pixels: int, workers: int | None, progress: Progress | None) -> list[Look]:
    looks: list[Look | None] = [_known(entry) for entry in entries]
    rows = [row for row, look in enumerate(looks) if look is None]
    count = sensible(len(rows)) if workers is None else workers
    chunks = [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]
    done = len(entries) - len(rows)
    for chunk, found in zip(chunks, _scanned(entries, chunks, max_pixels, count), strict=True):
        for row, look in zip(chunk, found, strict=True):
            looks[row] = look
        done += len(chunk)
        if progress:
            progress(done, len(entries))
    if progress and not rows:
        progress(done, len(entries))
    return [look for look in looks if look is not None]


def _known(entry: Entry) -> Look | None:
    """Return the look of what needs or allows no opening: an empty file, none, a folder, a pipe."""
    if not isinstance(entry.source, str):
        size, mode = len(entry.source) if isinstance(entry.source, bytes) else entry.source.size_bytes, stat.S_IFREG
    else:
        try:
            found = os.stat(entry.source)  # noqa: PTH116 a str: 100,000 Path objects cost a second
        except FileNotFoundError:
            return Look(kind="missing", reason="there is no such file")
        except (OSError, ValueError) as error:
            return Look(kind="unreadable", reason=f"it cannot be looked at ({error})")
        size, mode = found.st_size, found.st_mode
    if not stat.S_ISREG(mode):
        return Look(kind="unreadable", reason="not a regular file" if not stat.S_ISDIR(mode) else "it is a folder")
    return None if size else Look(kind="empty", reason="the file is empty (0 bytes)")


def _scanned(entries: Sequence[Entry], chunks: list[list[int]], max_pixels: int, workers: int) -> Iterator[list[Look]]:
    tasks = [[(entries[row].source, entries[row].name, max_pixels) for row in chunk] for chunk in chunks]
    return in_turn(inspect_all, tasks, workers)


def inspect_all(task: list[tuple[Encoded, str, int]]) -> list[Look]:
    """Look at several files: ``(path or bytes, name, max_pixels)`` each."""
    return [inspect(*arguments) for arguments in task]


def _source(name: str, origin: str, listing: Listing, good: list[tuple[Entry, Look]], problems: list[Problem], max_pixels: int) -> Source:
    number = {label: index for index, label in enumerate(listing.classes)}
    channels = 1 if all(look.channels == 1 for _, look in good) else 3
    return Source(
        name=name,
        origin=origin,
        classes=listing.classes,
        channels=channels,
        labels=np.array([number[entry.label] for entry, _ in good], np.int64),
        given=np.array([entry.given for entry, _ in good], np.int8),
        digests=np.array([look.digest for _, look in good], np.uint64),
        names=[entry.name for entry, _ in good],
        encoded=[entry.source for entry, _ in good],
        extents=np.array([(look.height, look.width) for _, look in good], np.int32).reshape(-1, 2),
        outlines=np.array([look.outline for _, look in good], np.uint64),
        modes=[look.mode for _, look in good],
        formats=[look.format for _, look in good],
        problems=tuple(problems),
        notes=listing.notes,
        max_pixels=max_pixels,
    )


def summary(origin: str, problems: Sequence[Problem]) -> str:
    """Say in one sentence why nothing is left, with counts by kind and the first three names."""
    left = [problem for problem in problems if problem.left_out and problem.kind != "class"]
    if not left:
        return f"{origin} has no files in its class folders; add images"
    counts = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in Counter(problem.kind for problem in left).most_common())
    shown = "; ".join(f"{problem.name!r}: {problem.reason}" for problem in left[:3])
    return f"{origin} has no usable image: {counts}. The first: {shown}"
