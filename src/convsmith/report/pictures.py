"""Arrays as pictures inside a page: PNG data, sheets of maps, heat over an image."""

from __future__ import annotations

import base64
import io
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LINE_PX: Final = 1
HOT: Final = (255.0, 60.0, 0.0)
STRENGTH: Final = 0.65


def data_uri(x_hwc: NDArray[np.uint8]) -> str:
    """Return a picture as a data URI, PNG. Shapes: uint8 ``(rows, columns)`` or ``(rows, columns, 1 or 3)``."""
    flat = x_hwc[:, :, 0] if x_hwc.ndim == 3 and x_hwc.shape[2] == 1 else x_hwc
    buffer = io.BytesIO()
    Image.fromarray(flat).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def sheet(pictures: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """Return pictures side by side with a line of grey between them, row after row; places without one are grey.

    Shapes: ``(n, rows, columns)`` or ``(n, rows, columns, channels)``, n at least 1.
    """
    n, height, width = pictures.shape[:3]
    across = min(columns, n)
    down = -(-n // across)
    out = np.full((down * (height + LINE_PX) - LINE_PX, across * (width + LINE_PX) - LINE_PX, *pictures.shape[3:]), 128, np.uint8)
    for index, picture in enumerate(pictures):
        top, left = index // across * (height + LINE_PX), index % across * (width + LINE_PX)
        out[top : top + height, left : left + width] = picture
    return out


def heated(image: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return a grey version of the image with heat 0 to 1 laid over it in red.

    Shapes: ``image`` (rows, columns, 1 or 3), ``heat`` (rows, columns); the result has three channels.
    """
    grey = image.astype(np.float64).mean(2, keepdims=True).repeat(3, axis=2)
    part = STRENGTH * np.clip(heat, 0, 1)[:, :, None]
    return np.asarray(np.rint(grey * (1 - part) + np.array(HOT) * part), np.uint8)
