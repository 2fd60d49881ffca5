"""Numbers that tell a picture's health: light, contrast, blur, a small copy of it, and features of shape and colour."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convsmith.data.decode import Encoded, decode
from convsmith.data.scan import Progress
from convsmith.data.source import Source
from convsmith.data.workers import in_turn, sensible
from convsmith.errors import DataError

SIDE = 192
THUMB = 32
CELLS = 6
DIRECTIONS = 9
CHUNK = 32
LUMA = np.array([0.299, 0.587, 0.114], np.float32)

Task = list[tuple[Encoded, str, int]]


@dataclass(frozen=True, eq=False)
class Measures:
    """What was measured of every image, one row each; the grey scale is 0 to 1.

    ``light``: mean. ``spread``: distance from the 2nd to the 98th percentile. ``blur``: 0 sharp to 1 smooth, as ``blur_effect``.
    ``thumbs``: uint8 ``(n, 32, 32, 3)``, the aspect ignored. ``features``: float32 ``(n, d)`` of shape and colour.
    """

    light: NDArray[np.float32]
    spread: NDArray[np.float32]
    blur: NDArray[np.float32]
    thumbs: NDArray[np.uint8]
    features: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.light)


def measure(source: Source, workers: int | None = None, progress: Progress | None = None) -> Measures:
    """Measure every image of a source, in worker processes when there are many files."""
    n = len(source)
    rows = [np.arange(start, min(start + CHUNK, n)) for start in range(0, n, CHUNK)]
    found: list[Measures] = []
    done = 0
    for chunk, part in zip(rows, _measured(source, rows, workers), strict=True):
        found.append(part)
        done += len(chunk)
        if progress:
            progress(done, n)
    if not found:
        return measure_pixels([])
    return Measures(*(np.concatenate([getattr(part, field.name) for part in found]) for field in fields(Measures)))


def _measured(source: Source, rows: list[NDArray[np.int64]], workers: int | None) -> Iterator[Measures]:
    if source.images is not None:
        for chunk in rows:
            yield measure_pixels([source.pixels(int(row)) for row in chunk])
        return
    tasks = [[(source.encoded[row], source.names[row], source.max_pixels) for row in chunk] for chunk in rows]
    yield from in_turn(measure_files, tasks, sensible(len(source)) if workers is None else workers)


def measure_files(task: Task) -> Measures:
    """Measure several files; one that has become unreadable since the scan counts as a black pixel."""
    pixels: list[NDArray[np.uint8]] = []
    for arguments in task:
        try:
            pixels.append(decode(*arguments))
        except DataError:
            pixels.append(np.zeros((1, 1, 1), np.uint8))
    return measure_pixels(pixels)


def measure_pixels(images: list[NDArray[np.uint8]]) -> Measures:
    """Measure decoded images, uint8 ``(height, width, 1 or 3)`` of any sizes."""
    n = len(images)
    light, spread, blur = (np.zeros(n, np.float32) for _ in range(3))
    thumbs = np.zeros((n, THUMB, THUMB, 3), np.uint8)
    shapes = np.zeros((n, CELLS * CELLS * DIRECTIONS), np.float32)
    for row, pixels in enumerate(images):
        picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
        thumbs[row] = np.asarray(picture.convert("RGB").resize((THUMB, THUMB), Image.Resampling.BOX))
        grey = picture.convert("L")
        grey.thumbnail((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=None)
        y_hw = np.asarray(grey, np.float32) / np.float32(255)
        light[row] = y_hw.mean()
        low, high = np.percentile(y_hw, (2, 98))
        spread[row] = high - low
        blur[row] = blur_effect(y_hw)
        shapes[row] = directions(np.asarray(grey.resize((48, 48), Image.Resampling.BOX), np.float32) / np.float32(255))
    return Measures(light, spread, blur, thumbs, np.concatenate([shapes, _colours(thumbs)], axis=1))


def blur_effect(y_hw: NDArray[np.float32], size: int = 11) -> float:
    """Return how little of the differences between neighbours a further blur removes: 0 sharp, 1 smooth; the worse of both axes.

    1 for a picture without any difference. References: Crete et al. 2007, doi:10.1117/12.702790, equations 1 to 6.
    """
    worst = 0.0
    for axis in (0, 1):
        if y_hw.shape[axis] < 3:
            continue
        y = y_hw if axis == 0 else y_hw.T
        window = min(size, len(y) | 1)
        padded = np.pad(y, ((window // 2 + 1, window // 2), (0, 0)), mode="edge")
        total = np.cumsum(padded, axis=0, dtype=np.float64)
        smooth = (total[window:] - total[:-window]) / window
        sharp_step = np.abs(np.diff(y, axis=0))
        lost = np.maximum(0, sharp_step - np.abs(np.diff(smooth[: len(y)], axis=0)))
        whole = float(sharp_step.sum())
        worst = max(worst, 1.0 if whole < 1e-6 else 1 - float(lost.sum()) / whole)
    return worst


def directions(y_hw: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return histograms of the gradients' directions in 6 x 6 cells, the root of each cell's shares, float32 ``(324,)``.

    References: Dalal, Triggs 2005, doi:10.1109/CVPR.2005.177, unsigned directions, without overlapping blocks.
    """
    dy, dx = np.gradient(y_hw)
    strength = np.hypot(dx, dy)
    angle = np.mod(np.arctan2(dy, dx), np.pi) * (DIRECTIONS / np.pi)
    bins = np.minimum(angle.astype(np.int64), DIRECTIONS - 1)
    height, width = y_hw.shape
    cell = (np.arange(height) * CELLS // height)[:, None] * CELLS + (np.arange(width) * CELLS // width)[None, :]
    counts = np.bincount((cell * DIRECTIONS + bins).ravel(), strength.ravel(), CELLS * CELLS * DIRECTIONS)
    shares = counts.reshape(-1, DIRECTIONS)
    roots: NDArray[np.float32] = np.sqrt(shares / (shares.sum(axis=1, keepdims=True) + 0.5)).ravel().astype(np.float32)
    return roots


def _colours(thumbs: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the roots of a 4 x 4 x 4 colour histogram, and the colours of an 8 x 8 copy, float32 ``(n, 256)``."""
    n = len(thumbs)
    levels = (thumbs >> 6).astype(np.int64)
    code = (levels[..., 0] * 16 + levels[..., 1] * 4 + levels[..., 2]).reshape(n, THUMB**2) + 64 * np.arange(n)[:, None]
    histogram = np.sqrt(np.bincount(code.ravel(), minlength=64 * n).reshape(n, 64) / THUMB**2)
    small = thumbs.reshape(n, 8, THUMB // 8, 8, THUMB // 8, 3).mean(axis=(2, 4)).reshape(n, 192) / 255
    return np.concatenate([histogram, small], axis=1).astype(np.float32)
