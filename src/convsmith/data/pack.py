"""Images in one file, one after the other, with an index at its end: written once, read through a memory map in any order.

docs/data.md has the layout.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convsmith.data.decode import Encoded, decode
from convsmith.data.packed import Extent, raw_bytes
from convsmith.data.scan import Progress
from convsmith.data.source import Source
from convsmith.errors import DataError, ResourceError, UsageError
from convsmith.kernels.resampling import resample

Encoding = Literal["pixels", "jpeg"]

MAGIC: Final = b"CSPACK1\n"
HEADER: Final = struct.Struct("<8sQQI36x")  # magic, offset and bytes of the index, CRC-32 of the index; 64 bytes in all
ALIGNMENT: Final = 64


def write_pack(
    source: Source,
    path: str | Path,
    *,
    short_side: int | None = None,
    encoding: Encoding = "pixels",
    quality: int = 90,
    progress: Progress | None = None,
) -> int:
    """Write the usable images of a source into a new file and return its bytes; a file that exists is not replaced.

    ``short_side``: scales larger images down to it, the aspect kept. ``encoding``: ``pixels`` needs no decoding later, ``jpeg`` a tenth of
    the space; a JPEG that is small enough already is copied byte for byte. Parts, labels, names and the hashes by which parts are made
    are those of the source.

    Raises: UsageError when the file exists; DataError for an image that has become unreadable; ResourceError when the disk is full.
    """
    path = Path(path)
    if path.exists():
        raise UsageError(f"{str(path)!r} exists already; name another file, or remove it")
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            _write(source, file, short_side, encoding, quality, progress)
            size_bytes = file.tell()
        part.replace(path)
    except OSError as error:
        raise ResourceError(f"cannot write {str(path)!r}: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)
    return size_bytes


def _write(source: Source, file: BinaryIO, short_side: int | None, encoding: Encoding, quality: int, progress: Progress | None) -> None:
    n = len(source)
    columns: dict[str, NDArray[Any]] = {
        "offsets": np.zeros(n, np.uint64), "sizes": np.zeros(n, np.uint64), "crcs": np.zeros(n, np.uint32),
        "extents": np.zeros((n, 2), np.int32), "channels": np.zeros(n, np.uint8),
    }  # fmt: skip
    file.write(bytes(HEADER.size))
    for row in range(n):
        content, (height, width), channels = packed_image(source, row, short_side, encoding, quality)
        file.write(bytes(-file.tell() % ALIGNMENT))
        columns["offsets"][row], columns["sizes"][row], columns["crcs"][row] = file.tell(), len(content), zlib.crc32(content)
        columns["extents"][row], columns["channels"][row] = (height, width), channels
        file.write(content)
        if progress and (row % 64 == 63 or row == n - 1):
            progress(row + 1, n)
    about = {"name": source.name, "classes": list(source.classes), "channels": source.channels, "origin": source.origin}
    texts = {
        "about": json.dumps(about),
        "names": json.dumps([source.title(row) for row in range(n)]),
        "modes": json.dumps(list(source.modes)),
    }
    columns |= {name: np.frombuffer(text.encode(), np.uint8) for name, text in texts.items()}
    columns |= {"labels": source.labels, "given": source.given, "digests": source.digests}
    if source.outlines is not None:
        columns["outlines"] = source.outlines
    index = io.BytesIO()
    np.savez(index, allow_pickle=False, **columns)
    raw, offset = index.getvalue(), file.tell()
    file.write(raw)
    end = file.tell()
    file.seek(0)
    file.write(HEADER.pack(MAGIC, offset, len(raw), zlib.crc32(raw)))
    file.seek(end)


def packed_image(source: Source, row: int, short_side: int | None, encoding: Encoding, quality: int) -> tuple[bytes, tuple[int, int], int]:
    """Return the bytes of one image as they are stored, its height and width, and its channels (0 for a JPEG)."""
    if source.images is not None:
        pixels = source.pixels(row)
    else:
        assert source.extents is not None
        height, width = map(int, source.extents[row])
        small = short_side is None or min(height, width) <= short_side
        if encoding == "jpeg" and small and source.formats and source.formats[row] == "JPEG":
            return encoded_bytes(source.encoded[row], source.names[row]), (height, width), 0
        pixels = decode(source.encoded[row], source.names[row], source.max_pixels)
    pixels = _scaled(pixels, short_side)
    height, width, channels = pixels.shape
    if encoding == "pixels":
        return np.ascontiguousarray(pixels).tobytes(), (height, width), channels
    buffer = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue(), (height, width), 0


def _scaled(pixels: NDArray[np.uint8], short_side: int | None) -> NDArray[np.uint8]:
    height, width, channels = pixels.shape
    if short_side is None or min(height, width) <= short_side:
        return pixels
    scale = short_side / min(height, width)
    out = np.empty((1, max(1, round(height * scale)), max(1, round(width * scale)), channels), np.uint8)
    resample([np.ascontiguousarray(pixels)], np.array([[0, 0, height, width]], np.int32), np.zeros(1, bool), out, threads=1)
    scaled: NDArray[np.uint8] = out[0]
    return scaled


def encoded_bytes(source: Encoded, name: str) -> bytes:
    """Return the bytes of an image file wherever it is.

    Raises: DataError when it cannot be read.
    """
    if isinstance(source, bytes):
        return source
    if isinstance(source, Extent):
        return bytes(raw_bytes(source))
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise DataError(f"{name!r} cannot be read: {error.strerror}") from error


def is_pack(path: Path) -> bool:
    """Tell a pack by its first bytes."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def open_pack(path: Path) -> Source:
    """Open a pack: its index is read and checked, images only when they are asked for.

    Raises: DataError when the file is cut off, its index damaged, or its index speaks of bytes that are not there.
    """
    again = "pack the images again"
    columns = _index(path, again)
    texts = {name: json.loads(columns[name].tobytes().decode()) for name in ("about", "names", "modes")}
    about, names = texts["about"], texts["names"]
    n = len(names)
    sizes = {name: len(columns[name]) for name in ("offsets", "sizes", "crcs", "extents", "channels", "labels", "given", "digests")}
    if set(sizes.values()) != {n} or (n and not 0 <= columns["labels"].min() <= columns["labels"].max() < len(about["classes"])):
        raise DataError(f"{str(path)!r} has an index that contradicts itself; {again}")
    extents, channels = columns["extents"].astype(np.int32), columns["channels"]
    if not (extents.astype(np.int64).prod(axis=1) * channels == np.where(channels > 0, columns["sizes"].astype(np.int64), 0)).all():
        raise DataError(f"{str(path)!r} has an index that contradicts itself; {again}")
    encoded = [
        Extent(str(path), int(offset), int(size), int(crc), (int(h), int(w), int(c)) if c else ())
        for offset, size, crc, (h, w), c in zip(columns["offsets"], columns["sizes"], columns["crcs"], extents, channels, strict=True)
    ]
    return Source(
        name=about["name"],
        origin=str(path),
        classes=tuple(about["classes"]),
        channels=int(about["channels"]),
        labels=columns["labels"].astype(np.int64),
        given=columns["given"].astype(np.int8),
        digests=columns["digests"].astype(np.uint64),
        names=names,
        encoded=encoded,
        extents=extents.reshape(-1, 2),
        outlines=columns["outlines"].astype(np.uint64) if "outlines" in columns else np.zeros(n, np.uint64),
        modes=texts["modes"] or ["L" if about["channels"] == 1 else "RGB"] * n,
        formats=["pixels" if c else "JPEG" for c in channels],
    )


def _index(path: Path, again: str) -> dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as file:
            head = file.read(HEADER.size)
            if len(head) < HEADER.size:
                raise DataError(f"{str(path)!r} is cut off in its header; {again}")
            _, offset, size_bytes, crc = HEADER.unpack(head)
            if not offset:
                raise DataError(f"{str(path)!r} was never finished; {again}")
            total = path.stat().st_size
            if offset + size_bytes > total:
                raise DataError(f"{str(path)!r} is cut off: it has {total:,} bytes of {offset + size_bytes:,}; {again}")
            file.seek(offset)
            raw = file.read(size_bytes)
    except OSError as error:
        raise DataError(f"{str(path)!r} cannot be read ({error.strerror})") from error
    if zlib.crc32(raw) != crc:
        raise DataError(f"{str(path)!r} has a damaged index (another checksum); {again}")
    try:
        with np.load(io.BytesIO(raw), allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (ValueError, zipfile.BadZipFile, KeyError) as error:
        raise DataError(f"{str(path)!r} has a damaged index ({error}); {again}") from error
