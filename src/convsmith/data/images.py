"""The two kinds of split: pixels that already stand in memory, and encoded files that are decoded one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convsmith.data.decode import MAX_PIXELS, Encoded, decode
from convsmith.data.preprocess import Preprocess, crop_box, resize


@dataclass(frozen=True, eq=False)
class ResidentSplit:
    """Rows of one uint8 array of images that is shared by all splits of a source.

    ``parts``: ``(title, first row)`` of the files that were joined into the array, for the names.

    Shapes: ``images`` (all, height, width, channels); ``rows``, ``labels``, ``digests`` (n,).
    """

    images: NDArray[np.uint8]
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    digests: NDArray[np.uint64]
    parts: tuple[tuple[str, int], ...]

    def __len__(self) -> int:
        return len(self.rows)

    def image(self, index: int) -> NDArray[np.uint8]:
        pixels: NDArray[np.uint8] = self.images[self.rows[index]]
        return pixels

    def name(self, index: int) -> str:
        return row_name(self.parts, int(self.rows[index]))

    def size(self, index: int) -> tuple[int, int]:
        return self.images.shape[1], self.images.shape[2]

    def sizes(self) -> NDArray[np.int32]:
        """Return ``(height, width)`` of all images, int32 ``(n, 2)``."""
        return np.broadcast_to(np.array(self.images.shape[1:3], np.int32), (len(self), 2))

    def view(self, indices: NDArray[np.int64], preprocess: Preprocess) -> NDArray[np.uint8]:
        """Return the network's view of some images, uint8 NHWC."""
        _, height, width, channels = self.images.shape
        wanted = (preprocess.height, preprocess.width, preprocess.channels)
        if (height, width, channels) == wanted and crop_box(preprocess, height, width) == (0, 0, height, width):
            return self.images[self.rows[indices]]
        out = np.empty((len(indices), *wanted), np.uint8)
        for place, row in enumerate(self.rows[indices]):
            out[place] = resize(self.images[row], preprocess)
        return out


@dataclass(frozen=True, eq=False)
class EncodedSplit:
    """Image files, as paths, as the bytes of an archive's members, or as pieces of a larger file.

    Shapes: ``labels``, ``digests`` (n,); ``extents`` int32 (n, 2), height and width.
    """

    names: Sequence[str]
    sources: Sequence[Encoded]
    labels: NDArray[np.int64]
    digests: NDArray[np.uint64]
    extents: NDArray[np.int32]
    max_pixels: int = MAX_PIXELS

    def __len__(self) -> int:
        return len(self.names)

    def image(self, index: int) -> NDArray[np.uint8]:
        return decode(self.sources[index], self.names[index], self.max_pixels)

    def name(self, index: int) -> str:
        return self.names[index]

    def size(self, index: int) -> tuple[int, int]:
        height, width = self.extents[index]
        return int(height), int(width)

    def sizes(self) -> NDArray[np.int32]:
        """Return ``(height, width)`` of all images, int32 ``(n, 2)``."""
        return self.extents


def row_name(parts: tuple[tuple[str, int], ...], row: int) -> str:
    """Return ``title[number]`` of a row of joined files."""
    title, first = next((title, first) for title, first in reversed(parts) if first <= row)
    return f"{title}[{row - first}]"
