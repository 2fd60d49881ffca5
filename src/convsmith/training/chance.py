"""Random numbers from counters: a function of (seed, epoch, image), never of what was drawn before.

So the order of the images and their augmentation are the same after a resume, with any batch size and any number of processes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the finaliser of splitmix64 (Steele, Lea, Flood 2014, doi:10.1145/2660193.2660195) of each number plus its increment."""
    with np.errstate(over="ignore"):
        x = x + _GOLDEN
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def key(*counters: int) -> np.uint64:
    """Return one 64-bit number for a tuple of counters."""
    state = np.zeros(1, np.uint64)
    for counter in counters:
        state = mix(state ^ np.uint64(counter & 0xFFFFFFFFFFFFFFFF))
    return np.uint64(state[0])


def order(n: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the order of ``n`` images in one epoch: a permutation, int64 ``(n,)``."""
    return np.argsort(mix(np.arange(n, dtype=np.uint64) ^ key(1, seed, epoch)), kind="stable").astype(np.int64)


def uniforms(indices: NDArray[np.int64], count: int, seed: int, epoch: int) -> NDArray[np.float64]:
    """Return ``count`` numbers in [0, 1) for every image: float64 ``(n, count)``."""
    images = mix(indices.astype(np.uint64) ^ key(2, seed, epoch))
    grid = mix(images[:, None] ^ mix(np.arange(count, dtype=np.uint64))[None, :])
    return (grid >> np.uint64(11)).astype(np.float64) * 2.0**-53
