"""Choose the network's input from the training images: size, channels, mean and deviation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convsmith.data.dataset import Dataset, Split, spread
from convsmith.data.images import EncodedSplit, ResidentSplit
from convsmith.data.loader import batches
from convsmith.data.preprocess import Preprocess, ResizeMode

SMALL = 64
LARGEST = 224
SAMPLE = 1000


def choose_preprocess(
    dataset: Dataset,
    size: int | tuple[int, int] | None = None,
    resize: ResizeMode | None = None,
    *,
    workers: int = 0,
) -> tuple[Preprocess, str]:
    """Return the preprocessing that fits the training images, and why in one sentence.

    Equal images of up to 64 pixels keep their size. Else the input is square: the median short side, rounded to 32 between 64
    and 224, or to 8 below that. ``size``: an int for a square, or ``(height, width)``. Mean and deviation are measured on up to
    1,000 evenly spread images.
    """
    sizes = split_sizes(dataset.train)
    height, width, reason = _size(sizes, size)
    mode, why = _mode(sizes, height, width, resize)
    blank = tuple([0.5] * dataset.channels)
    trial = Preprocess(height, width, dataset.channels, mode, mean=blank, std=blank)
    rows = spread(len(dataset.train), SAMPLE)
    mean, std = moments(dataset.train, trial, rows, workers)
    colour = "grey" if dataset.channels == 1 else "RGB"
    return Preprocess(height, width, dataset.channels, mode, mean=mean, std=std), (
        f"{height}x{width} {colour}: {reason}{why}; mean and deviation from {len(rows):,} training images"
    )


def split_sizes(split: Split) -> NDArray[np.int32]:
    """Return ``(height, width)`` of all images of a split, int32 ``(n, 2)``."""
    if isinstance(split, (ResidentSplit, EncodedSplit)):
        return split.sizes()
    return np.array([split.size(index) for index in range(len(split))], np.int32).reshape(-1, 2)


def _size(sizes: NDArray[np.int32], size: int | tuple[int, int] | None) -> tuple[int, int, str]:
    if size is not None:
        height, width = (size, size) if isinstance(size, int) else size
        return height, width, "as asked"
    first = sizes[0]
    if (sizes == first).all() and first.max() <= SMALL:
        return int(first[0]), int(first[1]), "the images' own size"
    median = float(np.median(sizes.min(axis=1)))
    if median < SMALL:
        side = max(8, round(median / 8) * 8)
    else:
        side = min(LARGEST, max(SMALL, round(median / 32) * 32))
    return side, side, f"the median short side is {median:g} pixels"


def _mode(sizes: NDArray[np.int32], height: int, width: int, resize: ResizeMode | None) -> tuple[ResizeMode, str]:
    if resize is not None:
        return resize, ""
    aspect = np.median(sizes[:, 1] / sizes[:, 0]) / (width / height)
    if not 0.5 <= aspect <= 2:
        return "squash", ", squashed because a crop would lose more than half of most images"
    return "crop", ""


def moments(split: Split, preprocess: Preprocess, rows: NDArray[np.int64], workers: int = 0) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per channel on the scale 0..1 of some images after the resize.

    Counted in a histogram of 256 levels, so exact in any order. A constant channel gets the deviation 1.
    """
    counts = np.zeros((preprocess.channels, 256), np.int64)
    for x_nhwc, _, _ in batches(split, preprocess, 64, order=rows, workers=workers):
        for channel in range(preprocess.channels):
            counts[channel] += np.bincount(x_nhwc[..., channel].ravel(), minlength=256)
    level = np.arange(256) / 255
    weight = counts / counts.sum(axis=1, keepdims=True)
    mean = weight @ level
    std = np.sqrt(np.maximum(weight @ level**2 - mean**2, 0))
    std[std < 1e-6] = 1.0
    return tuple(round(float(value), 6) for value in mean), tuple(round(float(value), 6) for value in std)
