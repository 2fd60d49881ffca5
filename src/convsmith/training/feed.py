"""Which images each update reads, and where they come from: memory when they fit, else worker processes."""

from __future__ import annotations

import functools
import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from convsmith.data import Waits, batches, pixels, spread, stream
from convsmith.data.dataset import Split
from convsmith.data.images import EncodedSplit
from convsmith.data.jpeg import Clock
from convsmith.data.loader import threads_suffice
from convsmith.data.pipeline import Cut
from convsmith.data.preprocess import Preprocess
from convsmith.kernels import processor_count
from convsmith.training.augmentation import colour_axes, cutter, stored_preprocess
from convsmith.training.chance import order
from convsmith.training.config import Training
from convsmith.training.network import device_of
from convsmith.training.processes import Team

FULL_BATCH_PART = 512
RESIDENT_PART = 0.25
AXES_IMAGES = 1000

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Part:
    """Images computed together: uint8 ``(n, h, w, c)``, labels int64 ``(n,)``, and their places in the split.

    ``placed``: of the network's size already, cut and mirrored as the epoch says.
    """

    x_nhwc: torch.Tensor
    labels: torch.Tensor
    indices: NDArray[np.int64]
    epoch: int
    placed: bool = False

    def __len__(self) -> int:
        return len(self.indices)


def pixel_bytes(split: Split, preprocess: Preprocess) -> int:
    """Return the memory that all decoded images of a split take."""
    return len(split) * preprocess.height * preprocess.width * preprocess.channels


def fits(bytes_: int) -> bool:
    """Tell whether so much may stay in memory: at most a quarter of what is free."""
    return bool(bytes_ <= RESIDENT_PART * psutil.virtual_memory().available)


class Feed:
    """The training images in the order of (seed, epoch), cut into updates and parts.

    An epoch is cut into batches whose sizes differ by one image at most, none larger than the configured one, so that no update rests
    on a small remainder.
    """

    def __init__(self, split: Split, preprocess: Preprocess, config: Training, team: Team, progress: Progress | None = None) -> None:
        self.split, self.preprocess, self.config, self.team = split, preprocess, config, team
        self.stored = stored_preprocess(preprocess, config.augment)
        n = len(split)
        batch = n if config.batch == "full" else min(config.batch, n)
        self.steps_per_epoch = math.ceil(n / batch)
        self.edges = [n * i // self.steps_per_epoch for i in range(self.steps_per_epoch + 1)]
        bytes_ = pixel_bytes(split, self.stored)
        self.resident = fits(bytes_) if config.resident == "auto" else config.resident
        self.bytes = bytes_ if self.resident else 0
        self.labels = torch.from_numpy(np.ascontiguousarray(split.labels))
        self.x_nhwc = torch.from_numpy(pixels(split, self.stored, workers=config.workers, progress=progress)) if self.resident else None
        self.pins = device_of(config).type == "cuda"
        self.waits, self._busy = Waits(), Waits()
        self._reader: tuple[int, Iterator[Part]] | None = None
        self._ordered: tuple[int, NDArray[np.int64]] = (-1, np.zeros(0, np.int64))

    @functools.cached_property
    def colour_axes(self) -> torch.Tensor | None:
        """Return the colour axes of the training images for PCA lighting, from at most 1,000 of them evenly spread; None without it."""
        if not self.config.augment.lighting or self.stored.channels != 3:
            return None
        rows = spread(len(self.split), AXES_IMAGES)
        if self.x_nhwc is not None:
            return colour_axes(self.x_nhwc[torch.from_numpy(rows)].numpy())
        return colour_axes(np.concatenate([x for x, _, _ in batches(self.split, self.stored, 64, order=rows, workers=self.config.workers)]))

    def size(self, step: int) -> int:
        """Return how many images update ``step`` reads in all processes together."""
        place = step % self.steps_per_epoch
        return self.edges[place + 1] - self.edges[place]

    def parts(self, step: int) -> list[tuple[int, int]]:
        """Return the places in the epoch's order of each part that this process computes for update ``step``."""
        place = step % self.steps_per_epoch
        start, stop = self.team.share(self.edges[place], self.edges[place + 1])
        count = min(self.config.accumulate, stop - start)
        if self.config.batch == "full":
            count = max(count, math.ceil((stop - start) / FULL_BATCH_PART))
        edges = [start + (stop - start) * i // count for i in range(count + 1)]
        return list(itertools.pairwise(edges))

    def read(self, step: int) -> Iterator[Part]:
        """Yield the parts of update ``step``; the time that the reader stands still for them goes to ``waits``."""
        parts = self._read(step)
        while True:
            began = time.perf_counter()
            part = next(parts, None)
            self.waits.waited_s += time.perf_counter() - began
            if part is None:
                return
            self.waits.images += len(part)
            yield part

    def _read(self, step: int) -> Iterator[Part]:
        if self.x_nhwc is not None:
            yield from self._from_memory(step)
            return
        following, reader = self._reader or (step, self._from_workers(step))
        if following != step:
            reader = self._from_workers(step)
        self._reader = None  # whoever stops in the middle of an update starts it anew
        for _ in self.parts(step):
            yield next(reader)
        self._reader = (step + 1, reader)

    def _from_memory(self, step: int) -> Iterator[Part]:
        assert self.x_nhwc is not None
        epoch = step // self.steps_per_epoch
        places = self._order(epoch)
        for start, stop in self.parts(step):
            indices = places[start:stop]
            chosen = torch.from_numpy(indices)
            yield self._part(self.x_nhwc[chosen], self.labels[chosen], indices, epoch)

    def _part(self, x_nhwc: torch.Tensor, labels: torch.Tensor, indices: NDArray[np.int64], epoch: int, placed: bool = False) -> Part:
        """Return a part; for a GPU in pinned memory, from which it copies while the processor goes on."""
        if self.pins:
            x_nhwc, labels = x_nhwc.pin_memory(), labels.pin_memory()
        return Part(x_nhwc, labels, indices, epoch, placed)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if self._ordered[0] != epoch:
            self._ordered = (epoch, order(len(self.split), self.config.seed, epoch))
        return self._ordered[1]

    def _from_workers(self, step: int) -> Iterator[Part]:
        """Yield parts from ``step`` on for ever, an epoch's remaining images at a time in the background."""
        while True:
            epoch, last = step // self.steps_per_epoch, (step // self.steps_per_epoch + 1) * self.steps_per_epoch
            cuts = [part for later in range(step, last) for part in self.parts(later)]
            places = order(len(self.split), self.config.seed, epoch)
            wanted = np.concatenate([places[start:stop] for start, stop in cuts])
            largest = max(stop - start for start, stop in cuts)
            sizes = [stop - start for start, stop in cuts]
            cut = self._cutter(epoch)
            if cut is None:
                source = batches(self.split, self.stored, largest, order=wanted, workers=self.config.workers or self._threads())
            else:
                assert isinstance(self.split, EncodedSplit)
                groups = np.split(wanted, np.cumsum(sizes)[:-1])
                threads = self.config.workers or self._threads()
                source = stream(self.split, groups, self.preprocess, cut=cut, threads=threads, quick=True, waits=self._busy)
            for x, labels, indices in recut(source, sizes):
                yield self._part(torch.from_numpy(x), torch.from_numpy(labels), indices, epoch, placed=cut is not None)
            step = last

    def take_waits(self) -> Waits:
        """Return how long the reader stood still since the last call, with what the decoding threads did."""
        taken = Waits(self.waits.waited_s, self.waits.images, self._busy.clock)
        self.waits, self._busy.clock = Waits(), Clock()
        return taken

    def _threads(self) -> int:
        """Return how many threads decode where nobody says: as many as there are processors, none for files that need processes."""
        return processor_count() if isinstance(self.split, EncodedSplit) and threads_suffice(self.split) else 0

    def _cutter(self, epoch: int) -> Cut | None:
        """Return what is read of each picture, where the files themselves can be cut: then no stored size comes between."""
        if not self._threads():
            return None
        assert isinstance(self.split, EncodedSplit)
        return cutter(self.split, self.preprocess, self.config.augment, self.config.seed, epoch)


Arrays = tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]


def recut(stream: Iterator[Arrays], sizes: list[int]) -> Iterator[Arrays]:
    """Yield the images of a stream in the given numbers instead of the stream's own."""
    held: list[Arrays] = []
    for size in sizes:
        while sum(len(arrays[2]) for arrays in held) < size:
            held.append(next(stream))
        x, labels, indices = held[0] if len(held) == 1 else _joined(held)
        yield x[:size], labels[:size], indices[:size]
        held = [(x[size:], labels[size:], indices[size:])] if len(indices) > size else []


def _joined(held: list[Arrays]) -> Arrays:
    x, labels, indices = zip(*held, strict=True)
    return np.concatenate(x), np.concatenate(labels), np.concatenate(indices)
