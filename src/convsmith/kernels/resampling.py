"""Boxes of pictures to one size, mirrored on demand, as bytes or normalised: Pillow's bilinear filter bit for bit, on several threads.

``reference`` states what is computed, with NumPy's integers; the native kernels of every instruction set equal it in every bit.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from convsmith.errors import UsageError
from convsmith.kernels.machine import instruction_set, processor_count

WEIGHT_BITS: Final = 22


def resample(
    pictures: Sequence[NDArray[np.uint8]],
    boxes: NDArray[np.int32],
    mirrored: NDArray[np.bool_],
    out: NDArray[Any],
    affine: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None,
    *,
    channels_last: bool = False,
    threads: int = 0,
    level: str | None = None,
) -> None:
    """Cut, scale and mirror each picture into its place of ``out``.

    ``out`` is uint8 NHWC, or with ``affine = (scale, shift)`` float32 NCHW (NHWC with ``channels_last``) of ``pixel * scale + shift``.
    ``threads``: 0 takes every processor. The result depends neither on it nor on the level.

    Shapes: ``pictures`` uint8 (height, width, channels) with contiguous rows; ``boxes`` (n, 4): top, left, bottom, right.
    Raises: UsageError for an empty or outer box, or a picture with other channels than ``out``.
    """
    level = level or instruction_set()
    boxes, flags = np.ascontiguousarray(boxes, np.int32), np.ascontiguousarray(mirrored, np.uint8)
    if level == "numpy":
        reference(pictures, boxes, flags, out, affine, channels_last=channels_last)
        return
    native, count = importlib.import_module("convsmith._native"), threads or processor_count()
    try:
        if affine is None:
            native.resample_bytes(list(pictures), boxes, flags, out, count, level)
        else:
            scale, shift = (np.ascontiguousarray(numbers, np.float32) for numbers in affine)
            native.resample_floats(list(pictures), boxes, flags, out, channels_last, scale, shift, count, level)
    except ValueError as error:
        raise UsageError(f"these pictures cannot be resampled: {error}") from error


def reference(
    pictures: Sequence[NDArray[np.uint8]],
    boxes: NDArray[np.int32],
    mirrored: NDArray[np.uint8],
    out: NDArray[Any],
    affine: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None,
    *,
    channels_last: bool = False,
) -> None:
    """Do what ``resample`` does, one matrix product an axis."""
    height, width = out.shape[1:3] if affine is None or channels_last else out.shape[2:]
    for place, picture in enumerate(pictures):
        top, left, bottom, right = boxes[place]
        cut = picture[top:bottom, left:right]
        columns, rows = weights(right - left, width), weights(bottom - top, height)
        if mirrored[place]:
            columns = columns[::-1]
        narrow = _rounded(np.einsum("xw,hwc->hxc", columns, cut.astype(np.int64)))
        pixels = _rounded(np.einsum("yh,hxc->yxc", rows, narrow.astype(np.int64)))
        if affine is None:
            out[place] = pixels
        else:
            numbers = pixels.astype(np.float32) * affine[0] + affine[1]
            out[place] = numbers if channels_last else numbers.transpose(2, 0, 1)


def weights(size: int, wanted: int) -> NDArray[np.int64]:
    """Return the weights of one axis in units of 2**-22, int64 ``(wanted, size)``: a triangle of two steps' width, at least two pixels."""
    scale = size / wanted
    wide = max(1.0, scale)
    found = np.zeros((wanted, size), np.int64)
    for place in range(wanted):
        centre = (place + 0.5) * scale
        low, high = max(0, int(centre - wide + 0.5)), min(size, int(centre + wide + 0.5))
        raw = [max(0.0, 1 - abs((x - centre + 0.5) * (1 / wide))) for x in range(low, high)]
        total = 0.0
        for share in raw:  # in this order, as Pillow adds them
            total += share
        found[place, low:high] = [int(0.5 + share / total * (1 << WEIGHT_BITS)) for share in raw]
    return found


def _rounded(sums: NDArray[np.int64]) -> NDArray[np.uint8]:
    levels: NDArray[np.uint8] = np.clip((sums + (1 << (WEIGHT_BITS - 1))) >> WEIGHT_BITS, 0, 255).astype(np.uint8)
    return levels
