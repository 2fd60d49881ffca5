"""Memory of batches that is used again once nobody holds the batch: new memory of tens of megabytes costs more than filling it."""

from __future__ import annotations

import math
import threading
import weakref
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

ALIGNMENT = 64
"""Bytes of a cache line: vectors that are stored across two cost twice."""


class Buffers:
    """Arrays whose memory comes back by itself: as soon as the last view of one is gone, the next of that size takes its place.

    Up to ``most`` pieces wait for use; the others go to the system. Safe to use from several threads.
    """

    def __init__(self, most: int = 4) -> None:
        self._most = most
        self._free: list[NDArray[np.uint8]] = []
        self._lock = threading.Lock()

    def take(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return an array of undefined content that begins at a cache line."""
        kind = np.dtype(dtype)
        size = math.prod(shape) * kind.itemsize
        if not size:
            return np.empty(shape, kind)
        memory = self._fitting(size + ALIGNMENT)
        begin = -memory.__array_interface__["data"][0] % ALIGNMENT
        # the base of every view is this array and not the memory below it, because its own base is no array
        owner = np.frombuffer(memory.data[begin : begin + size], kind)
        weakref.finalize(owner, self._give, memory).atexit = False
        return owner.reshape(shape)

    def _fitting(self, size: int) -> NDArray[np.uint8]:
        with self._lock:
            for place, memory in enumerate(self._free):
                if memory.nbytes == size:
                    return self._free.pop(place)
        return np.empty(size, np.uint8)

    def _give(self, memory: NDArray[np.uint8]) -> None:
        with self._lock:
            self._free.append(memory)
            del self._free[: -self._most]
