"""One image file to upright uint8 pixels, and the reason in words when that cannot be."""

from __future__ import annotations

import hashlib
import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from convsmith.data.packed import Extent, raw_bytes, raw_pixels
from convsmith.errors import DataError

MAX_PIXELS = 100_000_000

# Pillow's name of each format that is read -> the extensions that announce it
EXTENSIONS: dict[str, tuple[str, ...]] = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".jpg", ".jpeg", ".mpo"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
OPENED = tuple(form for form in EXTENSIONS if form != "MPO")  # Pillow opens MPO through JPEG
ANIMATED = ("GIF", "WEBP", "PNG", "TIFF")

# what a file really is when it is not an image that is read: (offset, bytes, name)
FOREIGN: tuple[tuple[int, bytes, str], ...] = (
    (0, b"%PDF", "a PDF document"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (4, b"ftypheic", "a HEIC image (convert it to JPEG or PNG)"),
    (4, b"ftypmif1", "a HEIF image (convert it to JPEG or PNG)"),
    (4, b"ftypavif", "an AVIF image (convert it to JPEG or PNG)"),
    (4, b"ftyp", "a video"),
    (0, b"<svg", "an SVG drawing (convert it to PNG)"),
    (0, b"<!DOCTYPE html", "a web page"),
    (0, b"<html", "a web page"),
    (0, b"8BPS", "a Photoshop file (convert it to PNG)"),
)

# EXIF orientation (tag 0x0112) -> what turns the stored picture upright
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

#: Where an image is: a path, the bytes of a file, or a piece of a larger file.
Encoded = str | bytes | Extent

_limit = threading.Lock()


class TooLarge(DataError):
    """An image with more pixels than allowed, or than memory holds."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one full look at an image found. ``height`` is 0 when it is left out.

    ``digest``: 64 bits of the BLAKE2b of the upright pixels, equal for pixel-identical images of any file format.
    ``outline``: 64-bit difference hash, close for pictures that look alike.
    ``kind``, ``reason``: empty when there is nothing to say.
    """

    height: int = 0
    width: int = 0
    channels: int = 0
    digest: int = 0
    outline: int = 0
    format: str = ""
    mode: str = ""
    kind: str = ""
    reason: str = ""


def read_image(path: str | Path, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode one image file upright as uint8 ``(height, width, channels)``, channels 1 (grey) or 3 (RGB).

    Transparent pixels are laid on white; 16-bit values are divided by 257; of an animation the first frame is taken.

    Raises: DataError with the reason when the file cannot be read.
    """
    return decode(str(path), str(path), max_pixels)


def decode(source: Encoded, name: str, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode a path, the bytes of a file or a piece of one, as ``read_image``; raw pixels are a read-only view."""
    if isinstance(source, Extent) and source.shape:
        return raw_pixels(source)
    look, pixels = _read(source, name, max_pixels, described=False)
    if pixels is None:
        raise (TooLarge if look.kind == "too_large" else DataError)(f"{name!r} cannot be read: {look.reason}")
    return pixels


def inspect(source: Encoded, name: str, max_pixels: int = MAX_PIXELS) -> Look:
    """Look at one file: header, full decode, hash. Never raises for a bad file; the reason is in the result."""
    return _read(source, name, max_pixels, described=True)[0]


def _read(source: Encoded, name: str, max_pixels: int, *, described: bool) -> tuple[Look, NDArray[np.uint8] | None]:
    if isinstance(source, Extent):
        try:
            source = bytes(raw_bytes(source))
        except DataError as error:
            return Look(kind="unreadable", reason=str(error)), None
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _look(file, name, max_pixels, described=described)
    except OSError as error:
        return Look(kind="unreadable", reason=f"the file cannot be opened ({error.strerror or error})"), None


def _look(file: BinaryIO, name: str, max_pixels: int, *, described: bool) -> tuple[Look, NDArray[np.uint8] | None]:
    head = file.read(32)
    file.seek(0)
    if not head:
        return Look(kind="empty", reason="the file is empty (0 bytes)"), None
    try:
        with _no_pillow_limit():
            image = Image.open(file, formats=OPENED)
    except UnidentifiedImageError:
        return Look(kind="unreadable", reason=_foreign(head)), None
    except MemoryError:
        return Look(kind="too_large", reason="there is not enough memory to open it"), None
    except Exception as error:  # Pillow's parsers raise a dozen types on damaged headers
        return Look(kind="unreadable", reason=f"the header is damaged ({_words(error)})"), None
    width, height, form, mode = image.width, image.height, image.format or "", image.mode
    if width * height > max_pixels:
        return Look(kind="too_large", reason=f"{width} x {height} pixels are more than the limit of {max_pixels:,}"), None
    try:
        frames = getattr(image, "n_frames", 1) if form in ANIMATED else 1
        pixels = plain(image)
    except MemoryError:
        return Look(kind="too_large", reason=f"there is not enough memory to decode {width} x {height} pixels"), None
    except Exception as error:  # and again on damaged pixel data
        return Look(kind="truncated", reason=f"the {form} pixel data ends early or is damaged ({_words(error)})"), None
    if not described:  # hashes would take longer than decoding a small image
        return Look(), pixels
    kind, reason = _remark(form, name, frames)
    height, width, channels = pixels.shape
    return Look(height, width, channels, digest(pixels), outline(pixels), form, mode, kind, reason), pixels


@contextmanager
def _no_pillow_limit() -> Iterator[None]:
    """Let Pillow read a header of any size: its own limit would hide the true size, and ours is checked next."""
    with _limit:
        saved, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = saved


def _words(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:160]


def _foreign(head: bytes) -> str:
    for offset, magic, title in FOREIGN:
        if head[offset : offset + len(magic)] == magic:
            return f"it is {title}, not an image that is read"
    if head[:4] in (b"\xff\xd8\xff\xe0", b"\x89PNG", b"GIF8", b"RIFF", b"II*\x00", b"MM\x00*") or head[:2] == b"BM":
        return "it starts as an image, but the header is damaged or ends early"
    if all(byte in b"\t\n\r\f" or 32 <= byte < 127 for byte in head):
        return "it is text, not an image"
    return "it is not an image that is read (JPEG, PNG, WebP, BMP, TIFF, GIF, PPM)"


def _remark(form: str, name: str, frames: int) -> tuple[str, str]:
    if frames > 1:
        return "animated", f"{frames} frames; the first is used"
    extension = PurePath(name).suffix.lower()
    if extension and extension not in EXTENSIONS[form]:
        return "extension", f"the name says {extension}, the content is {form}; the content is used"
    return "", ""


def plain(image: Image.Image) -> NDArray[np.uint8]:
    """Return the upright pixels of a Pillow image of any mode as uint8 ``(height, width, 1 or 3)``."""
    image.load()
    try:
        turn = UPRIGHT.get(image.getexif().get(0x0112, 1))
    except Exception:  # damaged EXIF says nothing about the orientation
        turn = None
    if turn is not None:
        info, image = image.info, image.transpose(turn)
        image.info = info
    if image.mode[0] in "IF":
        return _deep(np.asarray(image))[:, :, None]
    if image.mode in ("LA", "La", "RGBA", "RGBa", "PA") or "transparency" in image.info:
        return _on_white(image)
    if image.mode in ("1", "L"):
        return np.array(image.convert("L"))[:, :, None]
    rgb = np.array(image.convert("RGB"))
    return _grey_if_equal(rgb) if image.mode == "P" else rgb


def _deep(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Return 8 bits of 16-bit, 32-bit integer (0..65535) or float (0..1, or 0..255) grey pixels."""
    low, high = float(values.min()), float(values.max())
    if values.dtype.kind == "f":
        if not (0 <= low <= high <= 255):
            raise ValueError(f"float pixels from {low:g} to {high:g}; read are 0..1 and 0..255")
        return np.rint(values.astype(np.float64) * (255 if high <= 1 else 1)).astype(np.uint8)
    if low < 0 or high > 65535:
        raise ValueError(f"integer pixels from {low:g} to {high:g}; read are 0..65535")
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _on_white(image: Image.Image) -> NDArray[np.uint8]:
    grey = image.mode in ("L", "LA", "La", "1")
    rgba = image.convert("RGBA")
    flat = np.array(Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB"))
    return flat[:, :, :1].copy() if grey else _grey_if_equal(flat) if image.mode in ("P", "PA") else flat


def _grey_if_equal(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if (rgb[:, :, 0] == rgb[:, :, 1]).all() and (rgb[:, :, 0] == rgb[:, :, 2]).all():
        return rgb[:, :, :1].copy()
    return rgb


def digest(pixels: NDArray[np.uint8]) -> int:
    """Return 64 bits of the BLAKE2b of the shape and pixels of one image."""
    shape = repr(pixels.shape).encode()[:16]
    return int.from_bytes(hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=8, salt=shape).digest(), "little")


def outline(pixels: NDArray[np.uint8]) -> int:
    """Return the 64-bit difference hash: which of two neighbours in an 8 x 9 grey thumbnail is brighter."""
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).convert("L")
    small = np.asarray(image.resize((9, 8), Image.Resampling.BOX), np.int16)
    return int.from_bytes(np.packbits(small[:, 1:] > small[:, :-1]).tobytes(), "big")
