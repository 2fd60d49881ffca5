"""Arrays as PNG files for a page."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE_PX = 160


def png(pixels: NDArray[np.uint8], side: int | None = None) -> bytes:
    """Return uint8 ``(rows, columns, 1 or 3)`` as a PNG; one larger than ``side`` is reduced to it, a smaller one stays as it is."""
    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    if side is not None:
        picture.thumbnail((side, side), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def heated(pixels: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Lay a map of 0..1 over a picture, from nothing to orange: uint8 ``(rows, columns, 3)``."""
    colour = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
    share = 0.75 * heat[:, :, None]
    return np.asarray(np.rint(colour * (1 - share) + np.array([255, 120, 0]) * share), np.uint8)
