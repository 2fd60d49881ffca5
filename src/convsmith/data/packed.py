"""Images that lie in a larger file: where each one is, and reading it through a memory map."""

from __future__ import annotations

import mmap
import threading
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convsmith.errors import DataError

_maps: dict[str, tuple[tuple[int, int, int], mmap.mmap, set[int]]] = {}
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Extent:
    """A piece of a file. ``crc``: CRC-32 of its bytes, checked when it is first read; -1 where none is known.

    ``shape``: height, width and channels of raw uint8 pixels; empty for an encoded image.
    """

    path: str
    offset: int
    size_bytes: int
    crc: int = -1
    shape: tuple[int, ...] = ()


def raw_bytes(extent: Extent) -> memoryview:
    """Return the bytes of a piece without copying them.

    Raises: DataError when the file is gone, shorter than the piece, or the bytes have another checksum.
    """
    return _piece(extent, *_mapped(extent.path))


def _piece(extent: Extent, content: mmap.mmap, checked: set[int]) -> memoryview:
    end = extent.offset + extent.size_bytes
    if end > len(content):
        raise DataError(f"{extent.path!r} ends at byte {len(content):,}, an image in it at {end:,}: the file is cut off; write it again")
    piece = memoryview(content)[extent.offset : end]
    if extent.crc >= 0 and extent.offset not in checked:
        if zlib.crc32(piece) != extent.crc:
            raise DataError(f"{extent.path!r} is damaged: the image at byte {extent.offset:,} has another checksum; write it again")
        checked.add(extent.offset)
    return piece


def raw_pixels(extent: Extent) -> NDArray[np.uint8]:
    """Return raw pixels, uint8 ``(height, width, channels)``, as a read-only view of the file."""
    return np.frombuffer(raw_bytes(extent), np.uint8).reshape(extent.shape)


def raw_pictures(extents: Sequence[Extent]) -> list[NDArray[np.uint8]]:
    """Return the raw pixels of several pieces; each file is looked at once.

    Raises: DataError as `raw_bytes`.
    """
    maps = {path: _mapped(path) for path in {extent.path for extent in extents}}
    return [np.frombuffer(_piece(extent, *maps[extent.path]), np.uint8).reshape(extent.shape) for extent in extents]


def _mapped(path: str) -> tuple[mmap.mmap, set[int]]:
    """Return the file's bytes and the offsets that were checked; a file that was replaced is mapped anew."""
    try:
        found = Path(path).stat()
        state = (found.st_ino, found.st_size, found.st_mtime_ns)
        with _lock:
            known = _maps.get(path)
            if known is None or known[0] != state:
                with Path(path).open("rb") as file:
                    known = _maps[path] = (state, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), set())
    except (OSError, ValueError) as error:
        raise DataError(f"{path!r} cannot be read ({error})") from error
    return known[1], known[2]
