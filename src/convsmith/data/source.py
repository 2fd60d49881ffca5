"""A source of labelled images before it is split: what every reader returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from convsmith.data.dataset import Problem, Split, SplitName
from convsmith.data.decode import MAX_PIXELS, Encoded, digest
from convsmith.data.images import EncodedSplit, ResidentSplit, row_name
from convsmith.errors import DataError

PARTS: tuple[SplitName, ...] = ("train", "val", "test")
FREE = -1

# title, given part, images NHWC, labels
Block = tuple[str, int, NDArray[np.uint8], NDArray[np.int64]]

# what people call the three parts -> index into PARTS
PART_NAMES = {
    **dict.fromkeys(("train", "training"), 0),
    **dict.fromkeys(("val", "valid", "validation", "dev"), 1),
    **dict.fromkeys(("test", "testing"), 2),
}


@dataclass(frozen=True, eq=False)
class Source:
    """All usable images of a source in one order.

    ``given``: index into ``PARTS`` of the part an image came in, ``FREE`` (-1) when the source has no parts.
    ``images``: the resident array, or None when ``encoded`` holds paths or bytes.
    ``rows``: the rows of ``images`` that count, None for all. ``outlines``, ``modes``, ``formats`` are known of encoded files only.

    Shapes: ``labels``, ``given``, ``digests``, ``outlines`` (n,); ``extents`` (n, 2).
    """

    name: str
    origin: str
    classes: tuple[str, ...]
    channels: int
    labels: NDArray[np.int64]
    given: NDArray[np.int8]
    digests: NDArray[np.uint64]
    images: NDArray[np.uint8] | None = None
    rows: NDArray[np.int64] | None = None
    parts: tuple[tuple[str, int], ...] = ()
    names: Sequence[str] = ()
    encoded: Sequence[Encoded] = ()
    extents: NDArray[np.int32] | None = None
    outlines: NDArray[np.uint64] | None = None
    modes: Sequence[str] = ()
    formats: Sequence[str] = ()
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    max_pixels: int = MAX_PIXELS

    def __len__(self) -> int:
        return len(self.labels)

    def title(self, row: int) -> str:
        """Return the name of one image."""
        if self.images is None:
            return self.names[row]
        return row_name(self.parts, row if self.rows is None else int(self.rows[row]))

    def pixels(self, row: int) -> NDArray[np.uint8]:
        """Return one image of a source that stands in memory."""
        assert self.images is not None
        chosen: NDArray[np.uint8] = self.images[row if self.rows is None else self.rows[row]]
        return chosen

    def sizes(self) -> NDArray[np.int32]:
        """Return ``(height, width)`` of each image, or once of all that stand in memory, int32 ``(n or 1, 2)``."""
        if self.images is not None:
            return np.array([self.images.shape[1:3]], np.int32)
        assert self.extents is not None
        return self.extents

    def take(self, rows: NDArray[np.int64]) -> Split:
        """Return a split of some rows, in their order."""
        labels, digests = self.labels[rows], self.digests[rows]
        if self.images is not None:
            return ResidentSplit(self.images, rows.astype(np.int64) if self.rows is None else self.rows[rows], labels, digests, self.parts)
        assert self.extents is not None
        names, encoded = [self.names[row] for row in rows], [self.encoded[row] for row in rows]
        return EncodedSplit(names, encoded, labels, digests, self.extents[rows], self.max_pixels)


def resident(
    name: str,
    origin: str,
    classes: Sequence[str],
    blocks: Sequence[Block],
    notes: Sequence[str] = (),
) -> Source:
    """Join blocks of equal image size into a source.

    Raises: DataError when images and labels disagree in number or a label has no class.
    """
    starts = np.cumsum([0, *(len(labels) for *_, labels in blocks)])
    for title, _, images, labels in blocks:
        if len(images) != len(labels):
            raise DataError(f"{origin}: {title!r} has {len(images)} images but {len(labels)} labels")
        if len(labels) and not (0 <= labels.min() and labels.max() < len(classes)):
            raise DataError(f"{origin}: {title!r} has labels {labels.min()} to {labels.max()}, but there are {len(classes)} classes")
    shapes = sorted({images.shape[1:] for _, _, images, _ in blocks})
    if len(shapes) != 1:
        raise DataError(f"{origin}: the parts have images of different shapes {shapes}; they must agree")
    images = blocks[0][2] if len(blocks) == 1 else np.concatenate([images for _, _, images, _ in blocks])
    return Source(
        name=name,
        origin=origin,
        classes=tuple(classes),
        channels=images.shape[3],
        labels=np.concatenate([labels for *_, labels in blocks]).astype(np.int64),
        given=np.concatenate([np.full(len(labels), part, np.int8) for _, part, _, labels in blocks]),
        digests=np.fromiter((digest(image) for image in images), np.uint64, len(images)),
        images=images,
        parts=tuple((title, int(start)) for (title, *_), start in zip(blocks, starts, strict=False)),
        notes=tuple(notes),
    )


def without_empty_classes(source: Source) -> Source:
    """Drop the classes that have no usable image and say so; labels are renumbered."""
    used = np.bincount(source.labels, minlength=len(source.classes)) > 0
    if used.all():
        return source
    gone = [name for name, keep in zip(source.classes, used, strict=True) if not keep]
    problems = tuple(Problem(name, "class", "the class has no usable image; it takes no part") for name in gone)
    return replace(
        source,
        classes=tuple(name for name, keep in zip(source.classes, used, strict=True) if keep),
        labels=(np.cumsum(used) - 1)[source.labels].astype(np.int64),
        problems=source.problems + problems,
    )
