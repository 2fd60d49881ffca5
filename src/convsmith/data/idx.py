"""The idx files of MNIST and its relatives, plain or gzipped.

References: http://yann.lecun.com/exdb/mnist (format): two zero bytes, a type code (8 = unsigned byte), the number of axes,
their sizes as big-endian 32-bit integers, then the values.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convsmith.data.source import Source, resident
from convsmith.errors import DataError

GZIP = b"\x1f\x8b"
FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


def is_idx_name(name: str) -> bool:
    return "idx3-ubyte" in name or "idx4-ubyte" in name or "idx1-ubyte" in name


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read one idx file of unsigned bytes, gzipped or not (told by its first bytes).

    Raises: DataError when the header, the length or the gzip checksum is wrong.
    """
    raw = path.read_bytes()
    if raw[:2] == GZIP:
        try:
            raw = zlib.decompress(raw, wbits=31, bufsize=max(1, min(_gzip_size(raw), 1 << 30)))
        except zlib.error as error:
            raise DataError(f"{path.name!r} is a damaged gzip file ({error}); fetch it again") from error
    if len(raw) < 4 or raw[:2] != b"\0\0" or not 1 <= raw[3] <= 4:
        start = raw[:4].hex() or "nothing"
        raise DataError(f"{path.name!r} is not an idx file: it starts with {start}, an idx file with 000008 and the number of axes")
    if raw[2] != 8:
        raise DataError(f"{path.name!r} holds idx values of type 0x{raw[2]:02x}; only unsigned bytes (0x08) are read")
    header = 4 + 4 * raw[3]
    if len(raw) < header:
        raise DataError(f"{path.name!r} ends inside its header ({len(raw)} bytes)")
    shape = struct.unpack(f">{raw[3]}I", raw[4:header])
    if len(raw) - header != math.prod(shape):
        axes = " x ".join(map(str, shape))
        raise DataError(f"{path.name!r} announces {axes} values but holds {len(raw) - header}; it is truncated or damaged")
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)


def _gzip_size(raw: bytes) -> int:
    return int.from_bytes(raw[-4:], "little")


def open_idx(folder: Path) -> Source:
    """Open a folder with train images and labels, and t10k or test ones when it has them.

    Class names: the lines of ``classes.txt``, else Fashion-MNIST's when the folder's name says fashion, else the numbers.
    """
    names = sorted(path.name for path in folder.iterdir() if is_idx_name(path.name))
    pairs = [(part, *_pair(folder, names, words)) for part, words in ((0, ("train",)), (2, ("t10k", "test")))]
    blocks = []
    for part, images_name, labels_name in pairs:
        if images_name and labels_name:
            images = read_idx(folder / images_name)
            labels = read_idx(folder / labels_name)
            if images.ndim not in (3, 4) or labels.ndim != 1:
                axes = f"{images_name!r} has {images.ndim} axes and {labels_name!r} {labels.ndim}"
                raise DataError(f"{folder}: {axes}; expected are 3 or 4, and 1")
            if images.ndim == 4 and images.shape[3] not in (1, 3):
                raise DataError(f"{folder}: {images_name!r} has {images.shape[3]} channels; allowed are 1 and 3")
            blocks.append((images_name, part, images.reshape(*images.shape[:3], -1), labels.astype(np.int64)))
    if not blocks or blocks[0][1] != 0:
        found = ", ".join(names) or "none"
        raise DataError(f"{folder} needs train-images-idx3-ubyte and train-labels-idx1-ubyte (also .gz); found {found}")
    return resident(folder.resolve().name, str(folder), _class_names(folder, blocks[0][3]), blocks)


def _pair(folder: Path, names: Iterable[str], words: tuple[str, ...]) -> tuple[str, str]:
    """Return the image and the label file of one part, ``""`` when absent; a plain file wins over its .gz."""
    found = []
    for marks in (("idx3-ubyte", "idx4-ubyte"), ("idx1-ubyte",)):
        fits = [name for name in names if any(word in name for word in words) and any(mark in name for mark in marks)]
        plain = [name for name in fits if not (name.endswith(".gz") and name[:-3] in fits)]
        if len(plain) > 1:
            kinds = f"{len(plain)} {words[0]} files of one kind ({', '.join(plain)})"
            raise DataError(f"{folder} has {kinds}; put each data set in its own folder")
        found.append(plain[0] if plain else "")
    return found[0], found[1]


def _class_names(folder: Path, labels: NDArray[np.int64]) -> tuple[str, ...]:
    listed = folder / "classes.txt"
    if listed.is_file():
        return tuple(line.strip() for line in listed.read_text("utf-8").splitlines() if line.strip())
    count = int(labels.max()) + 1 if len(labels) else 0
    if "fashion" in folder.resolve().name.lower() and count == len(FASHION):
        return FASHION
    return tuple(str(number) for number in range(count))
