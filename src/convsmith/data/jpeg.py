"""Decode only as much of a picture as a box of it needs: a JPEG at reduced scale, in threads that do not wait for each other."""

from __future__ import annotations

import io
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from convsmith.data.decode import Encoded, decode
from convsmith.data.packed import Extent, raw_bytes, raw_pixels
from convsmith.errors import DataError

#: libjpeg's reductions that have vector code.
REDUCTIONS: Final = (8, 4, 2)
COLOURS: Final = {"YCbCr": "RGB", "RGB": "RGB", "Gray": "GRAY"}
EXIF: Final = b"Exif\0\0"
# second bytes of JPEG markers
APP1, START_OF_SCAN, FILL = 0xE1, 0xDA, 0xFF


@dataclass
class Clock:
    """Seconds that decoding threads spent, summed over them."""

    disk_s: float = 0.0
    decode_s: float = 0.0
    resample_s: float = 0.0

    def add(self, other: Clock) -> None:
        self.disk_s += other.disk_s
        self.decode_s += other.decode_s
        self.resample_s += other.resample_s


class Room(threading.local):
    """Memory of each thread for the picture that it decodes: new memory for every picture costs a tenth of its decoding."""

    def __init__(self) -> None:
        self.memory = bytearray()

    def of(self, size_bytes: int) -> bytearray:
        """Return the thread's memory, enlarged where it is too small; what it held before is lost."""
        if len(self.memory) < size_bytes:
            self.memory = bytearray(size_bytes)
        return self.memory


def is_jpeg(source: Encoded) -> bool:
    """Tell a JPEG by its first bytes; False for what cannot be read."""
    try:
        if isinstance(source, Extent):
            return not source.shape and bytes(raw_bytes(source)[:2]) == b"\xff\xd8"
        if isinstance(source, bytes):
            return source[:2] == b"\xff\xd8"
        with Path(source).open("rb") as file:
            return file.read(2) == b"\xff\xd8"
    except (OSError, DataError):
        return False


def decode_box(
    source: Encoded,
    name: str,
    max_pixels: int,
    box: tuple[int, int, int, int],
    wanted: tuple[int, int],
    quick: bool,
    clock: Clock,
    room: Room | None = None,
) -> tuple[NDArray[np.uint8], tuple[int, int, int, int]]:
    """Return pixels and where the box (top, left, bottom, right) lies in them.

    With ``quick`` a JPEG is decoded at 1/2, 1/4 or 1/8 where the box keeps at least the ``wanted`` height and width, and with libjpeg's
    faster transform and colour upsampling; without it the pixels are those of ``decode``. ``room``: the pixels may lie in it, until the
    thread decodes the next picture.

    Raises: DataError as ``decode``.
    """
    if isinstance(source, Extent) and source.shape:
        began = time.perf_counter()
        pixels = raw_pixels(source)
        clock.disk_s += time.perf_counter() - began
        return pixels, box
    began = time.perf_counter()
    raw = encoded_bytes(source)
    read = time.perf_counter()
    found = None if raw is None else _fast(raw, max_pixels, box, wanted, quick, room)
    if found is None:
        found = decode(source if raw is None or isinstance(raw, memoryview) else raw, name, max_pixels), box
    clock.disk_s += read - began
    clock.decode_s += time.perf_counter() - read
    return found


def decode_whole(raw: bytes, name: str, max_pixels: int) -> NDArray[np.uint8]:
    """Decode the bytes of a file to the pixels of ``decode``; an ordinary JPEG by the faster reader.

    Raises: DataError as ``decode``.
    """
    found = _fast(raw, max_pixels, (0, 0, 0, 0), (1, 1), quick=False)
    return decode(raw, name, max_pixels) if found is None else found[0]


def encoded_bytes(source: Encoded) -> bytes | memoryview | None:
    """Return the encoded bytes of an image, read from its file where they lie in one; None where it cannot be read."""
    if isinstance(source, Extent):
        return raw_bytes(source)
    if isinstance(source, bytes):
        return source
    try:
        handle = os.open(source, os.O_RDONLY | getattr(os, "O_BINARY", 0))  # half the time of an opened file object
    except OSError:
        return None  # decode says why
    try:
        size_bytes = os.fstat(handle).st_size
        raw = os.read(handle, size_bytes + 1)
        return raw if len(raw) == size_bytes else Path(source).read_bytes()
    except OSError:
        return None
    finally:
        os.close(handle)


def _fast(
    raw: bytes | memoryview,
    max_pixels: int,
    box: tuple[int, int, int, int],
    wanted: tuple[int, int],
    quick: bool,
    room: Room | None = None,
) -> tuple[NDArray[np.uint8], tuple[int, int, int, int]] | None:
    """Decode an upright JPEG of ordinary colours; None for everything else, a damaged one included."""
    if bytes(raw[:2]) != b"\xff\xd8" or not _upright(raw):
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(raw)
        if colours not in COLOURS or height * width > max_pixels or box[2] > height or box[3] > width:
            return None
        factor = _reduction(box, wanted) if quick else 1
        memory = room.of(3 * height * width) if room else None
        pixels = simplejpeg.decode_jpeg(
            raw,
            COLOURS[colours],
            fastdct=quick,
            fastupsample=quick,
            min_height=-(-height // factor) if factor > 1 else 0,
            min_width=-(-width // factor) if factor > 1 else 0,
            buffer=memory,
        )
    except ValueError:
        return None
    if factor > 1:
        top, left, bottom, right = box[0] // factor, box[1] // factor, -(-box[2] // factor), -(-box[3] // factor)
        box = top, left, min(bottom, pixels.shape[0]), min(right, pixels.shape[1])
    return pixels, box


def _reduction(box: tuple[int, int, int, int], wanted: tuple[int, int]) -> int:
    ratio = min((box[2] - box[0]) / wanted[0], (box[3] - box[1]) / wanted[1])
    return next((factor for factor in REDUCTIONS if factor <= ratio), 1)


def _upright(raw: bytes | memoryview) -> bool:
    """Tell whether EXIF turns the picture; what is damaged says nothing about it, but lets the careful decoder see it."""
    place, end = 2, len(raw) - 10
    while place < end and raw[place] == FILL:
        marker = raw[place + 1]
        if marker == START_OF_SCAN:
            return True
        if marker == FILL:
            place += 1
            continue
        if marker == APP1 and bytes(raw[place + 4 : place + 10]) == EXIF:
            try:
                return bool(Image.open(io.BytesIO(raw)).getexif().get(0x0112, 1) == 1)
            except Exception:
                return False
        place += 2 + (raw[place + 2] << 8 | raw[place + 3])
    return False
