"""A source without the images that a list names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from convsmith.data.dataset import Problem
from convsmith.data.findings import LEAKED, read_list
from convsmith.data.source import Source
from convsmith.data.split import TEST
from convsmith.errors import DataError, near


def without(source: Source, exclude: str | Path | None) -> Source:
    """Return a source without the images of a list, which become problems of the kind ``excluded``.

    Images of a given test part stay, as do those the list calls ``leaked``. A name that is no usable image is passed over, since the list
    may be older than the folder, but a list of which no name is known is an error.

    Raises: DataError when the list cannot be read or names no image of the source.
    """
    if exclude is None:
        return source
    named = {name: why for name, why in read_list(exclude).items() if why[0] != LEAKED}
    titles = [source.title(row) for row in range(len(source))]
    known = [title in named for title in titles]
    if named and not any(known):
        first = next(iter(named))
        raise DataError(f"{str(exclude)!r} names no image of {source.origin}; its first is {first!r}.{near(first, titles)}")
    keep = np.array([not (hit and given != TEST) for hit, given in zip(known, source.given, strict=True)], bool)
    gone = [
        Problem(title, "excluded", f"{named[title][0].replace('_', ' ')}: {named[title][1]}")
        for title, kept in zip(titles, keep, strict=True)
        if not kept
    ]
    return replace(_taken(source, np.flatnonzero(keep)), problems=source.problems + tuple(gone))


def _taken(source: Source, rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Source:
    """Return the rows of a source; an array keeps its pixels, so that every image keeps its name."""
    if source.images is not None:
        kept = source.rows if source.rows is not None else np.arange(len(source))
        return replace(source, labels=source.labels[rows], given=source.given[rows], digests=source.digests[rows], rows=kept[rows])
    assert source.extents is not None and source.outlines is not None
    chosen = rows.tolist()
    return replace(
        source,
        labels=source.labels[rows],
        given=source.given[rows],
        digests=source.digests[rows],
        names=[source.names[row] for row in chosen],
        encoded=[source.encoded[row] for row in chosen],
        extents=source.extents[rows],
        outlines=source.outlines[rows],
        modes=[source.modes[row] for row in chosen],
        formats=[source.formats[row] for row in chosen],
    )
