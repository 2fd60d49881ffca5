"""Batches decoded ahead of the reader by threads: each image only as far as its box needs, scaled into its place of the batch."""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from convsmith.data.buffers import Buffers
from convsmith.data.images import EncodedSplit
from convsmith.data.jpeg import Clock, Room, decode_box
from convsmith.data.packed import Extent, raw_pictures
from convsmith.data.preprocess import Preprocess, affine, crop_box, framed, to_channels
from convsmith.kernels import processor_count
from convsmith.kernels.resampling import resample

#: Places of images in a split -> their boxes, int32 ``(n, 4)``, and which are mirrored, bool ``(n,)``.
Cut = Callable[[NDArray[np.int64]], tuple[NDArray[np.int32], NDArray[np.bool_]]]

_buffers: WeakKeyDictionary[EncodedSplit, Buffers] = WeakKeyDictionary()
"""Memory of batches for as long as there is the split, so that every epoch finds that of the one before."""


@dataclass
class Waits:
    """How long the reader stood still for its batches, and what the threads did meanwhile (seconds summed over the threads)."""

    waited_s: float = 0.0
    images: int = 0
    clock: Clock = field(default_factory=Clock)

    def share(self, elapsed_s: float) -> float:
        """Return the share of the elapsed time that was spent waiting, 0 to 1."""
        return min(1.0, self.waited_s / elapsed_s) if elapsed_s > 0 else 0.0

    def to_dict(self) -> dict[str, float]:
        """Return plain values for an event."""
        return {"waited_s": round(self.waited_s, 4), "images": self.images, **{k: round(v, 4) for k, v in vars(self.clock).items()}}


def stream(
    split: EncodedSplit,
    groups: Sequence[NDArray[np.int64]],
    preprocess: Preprocess,
    *,
    cut: Cut | None = None,
    threads: int = 0,
    ahead: int = 2,
    quick: bool = False,
    normalise: bool = False,
    channels_last: bool = False,
    waits: Waits | None = None,
) -> Iterator[tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]]:
    """Yield ``(x, labels int64, indices int64)`` of each group of images in turn, up to ``ahead`` groups decoded before they are asked for.

    ``x`` is uint8 NHWC, with ``normalise`` the network's float32 NCHW (NHWC with ``channels_last``). Without ``cut`` the boxes are those of
    the preprocessing and the pixels those of ``data.resize`` bit for bit. ``quick``: JPEGs at reduced scale where a box allows it, and
    with libjpeg's faster transform (differences of a few levels). ``threads``: 0 takes every processor; nothing depends on their number.
    The memory of a batch is used again once nobody holds it or a view of it.

    Raises: DataError when a file has become unreadable since the scan.
    """
    count = threads or processor_count()
    waits = waits if waits is not None else Waits()
    pool = ThreadPoolExecutor(count, thread_name_prefix="decode")
    buffers = _buffers.setdefault(split, Buffers())
    begin = _Beginner(split, preprocess, cut or _whole(split, preprocess), pool, count, quick, normalise, channels_last, waits, buffers)
    pending: deque[tuple[NDArray[np.int64], NDArray[Any], list[Future[None]]]] = deque()
    following = iter(groups)
    try:
        pending.extend(map(begin, itertools.islice(following, ahead)))
        while pending:
            group, x, futures = pending.popleft()
            began = time.perf_counter()
            for future in futures:
                future.result()
            waits.waited_s += time.perf_counter() - began
            waits.images += len(group)
            pending.extend(map(begin, itertools.islice(following, 1)))
            yield x, split.labels[group], group
    finally:
        pool.shutdown(cancel_futures=True)


def _whole(split: EncodedSplit, preprocess: Preprocess) -> Cut:
    def cut(indices: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        boxes = [crop_box(preprocess, *map(int, split.extents[index])) for index in indices]
        return np.array(boxes, np.int32).reshape(-1, 4), np.zeros(len(indices), bool)

    return cut


@dataclass(frozen=True, eq=False)
class _Beginner:
    """Hands the images of a group out to the threads."""

    split: EncodedSplit
    preprocess: Preprocess
    cut: Cut
    pool: ThreadPoolExecutor
    threads: int
    quick: bool
    normalise: bool
    channels_last: bool
    waits: Waits
    buffers: Buffers
    room: Room = field(default_factory=Room)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @cached_property
    def numbers(self) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Scale and shift of the normalisation, None for bytes."""
        return affine(self.preprocess) if self.normalise else None

    def __call__(self, group: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[Any], list[Future[None]]]:
        p = self.preprocess
        boxes, mirrored = self.cut(group)
        if not self.normalise:
            x = self.buffers.take((len(group), p.height, p.width, p.channels), np.uint8)
        elif self.channels_last:
            x = self.buffers.take((len(group), p.height, p.width, p.channels), np.float32)
        else:
            x = self.buffers.take((len(group), p.channels, p.height, p.width), np.float32)
        pieces = np.array_split(np.arange(len(group)), min(len(group), 2 * self.threads))
        return group, x, [self.pool.submit(self._fill, group, boxes, mirrored, x, piece) for piece in pieces]

    def _fill(
        self, group: NDArray[np.int64], boxes: NDArray[np.int32], mirrored: NDArray[np.bool_], x: NDArray[Any], piece: NDArray[np.int64]
    ) -> None:
        clock, places = Clock(), slice(piece[0], piece[-1] + 1)
        sources = [self.split.sources[index] for index in group[places]]
        raw = [source for source in sources if isinstance(source, Extent) and source.shape]
        if len(raw) == len(sources):
            began = time.perf_counter()
            pictures, cuts = raw_pictures(raw), boxes[places]
            clock.disk_s += time.perf_counter() - began
            for place in np.flatnonzero((cuts[:, :2] < 0).any(1) | (cuts[:, 2:] > self.split.extents[group[places]]).any(1)):
                top, left, bottom, right = cuts[place].tolist()
                pictures[place], cuts[place] = framed(pictures[place], (top, left, bottom, right))
            self._place(pictures, cuts, mirrored[places], x[places], clock)
        else:
            # each is scaled while the cache has it
            for place in piece:
                one = slice(place, place + 1)
                pixels, boxes[place] = self._decoded(int(group[place]), boxes[place], clock)
                self._place([pixels], boxes[one], mirrored[one], x[one], clock)
        with self.lock:
            self.waits.clock.add(clock)

    def _decoded(self, index: int, box: NDArray[np.int32], clock: Clock) -> tuple[NDArray[np.uint8], tuple[int, int, int, int]]:
        """Return pixels of a picture that hold the whole box, and where it lies in them; one that reaches beyond is decoded whole.

        The pixels last until the thread decodes the next picture.
        """
        split, p = self.split, self.preprocess
        height, width = map(int, split.extents[index])
        top, left, bottom, right = box.tolist()
        beyond = top < 0 or left < 0 or bottom > height or right > width
        wanted, quick = (p.height, p.width), self.quick and not beyond
        asked = (0, 0, height, width) if beyond else (top, left, bottom, right)
        source, name = split.sources[index], split.names[index]
        pixels, place = decode_box(source, name, split.max_pixels, asked, wanted, quick, clock, self.room)
        if pixels.shape[0] < place[2] or pixels.shape[1] < place[3]:  # a smaller picture replaced the file since the scan
            return framed(pixels, crop_box(p, *pixels.shape[:2]))
        return framed(pixels, (top, left, bottom, right)) if beyond else (pixels, place)

    def _place(
        self, pictures: list[NDArray[np.uint8]], boxes: NDArray[np.int32], mirrored: NDArray[np.bool_], x: NDArray[Any], clock: Clock
    ) -> None:
        began = time.perf_counter()
        channels = self.preprocess.channels
        fitting = [to_channels(pixels, channels) for pixels in pictures]
        resample(fitting, boxes, mirrored, x, self.numbers, channels_last=self.channels_last, threads=1)
        clock.resample_s += time.perf_counter() - began
