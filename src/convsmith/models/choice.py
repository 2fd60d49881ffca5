"""Which architecture a data set gets when the user names none."""

from __future__ import annotations

from convsmith.data.dataset import Dataset
from convsmith.data.preprocess import Preprocess
from convsmith.models.zoo import ZOO

SMALL_LIMIT = 64
"""Up to this side in pixels an image counts as small."""

SHORT_S = 1e-3
"""Below so many seconds of training for each image, one pass of MNIST in a minute, a cheaper network comes further."""


def choose(dataset: Dataset, preprocess: Preprocess, time_s: float | None = None) -> tuple[str, str]:
    """Return the name of an architecture and the reason in words; ``time_s`` is the time that training may take.

    A multilayer perceptron is chosen only for images too small to halve twice.
    """
    side, images = max(preprocess.height, preprocess.width), len(dataset.train)
    size = f"{preprocess.height}x{preprocess.width}"
    smallest = min(preprocess.height, preprocess.width)
    if smallest < ZOO["smallnet"].smallest:
        return "mlp", f"images of {size} pixels are too small for a convolutional network"
    if side <= SMALL_LIMIT or smallest < ZOO["photonet"].smallest:
        if time_s is not None and time_s < SHORT_S * images:
            return (
                "quicknet",
                f"{time_s:.3g} s are little for {images:,} images of {size} pixels: strided convolutions cost a sixth",
            )
        return "smallnet", f"images of {size} pixels are small: three stages of 3x3 convolutions see all of them"
    return "photonet", f"{images} training images of {size} pixels, from scratch: a slim residual network trains in minutes on a CPU"
