"""From a split to the network's uint8 images: all at once, or batch by batch from worker processes, in a fixed order."""

from __future__ import annotations

import mmap
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from convsmith.data.dataset import Split
from convsmith.data.decode import Encoded, decode
from convsmith.data.images import EncodedSplit, ResidentSplit
from convsmith.data.jpeg import is_jpeg
from convsmith.data.packed import Extent
from convsmith.data.pipeline import stream
from convsmith.data.preprocess import Preprocess, resize
from convsmith.data.scan import Progress
from convsmith.data.workers import Pool
from convsmith.errors import UsageError

Batch = tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]
CHUNK = 64


def pixels(split: Split, preprocess: Preprocess, *, workers: int = 0, progress: Progress | None = None) -> NDArray[np.uint8]:
    """Return the network's view of a whole split in memory, uint8 ``(n, height, width, channels)``.

    Images that already stand in memory at that size are only gathered. ``progress`` is called with (done, total).
    """
    if isinstance(split, ResidentSplit):
        out = split.view(np.arange(len(split)), preprocess)
        if progress:
            progress(len(split), len(split))
        return out
    out = np.empty((len(split), preprocess.height, preprocess.width, preprocess.channels), np.uint8)
    done = 0
    for x_nhwc, _, indices in batches(split, preprocess, CHUNK, workers=workers):
        out[indices] = x_nhwc
        done += len(indices)
        if progress:
            progress(done, len(split))
    return out


def batches(
    split: Split,
    preprocess: Preprocess,
    batch: int,
    *,
    order: NDArray[np.int64] | None = None,
    workers: int = 0,
    prefetch: int = 2,
) -> Iterator[Batch]:
    """Yield ``(x uint8 NHWC, labels int64, indices int64)`` in ``order`` (default: the split's own); the last may be short.

    ``workers`` threads decode JPEGs and packed pixels up to ``prefetch`` batches ahead of the reader; other files as many processes do,
    each up to ``prefetch`` ahead. Neither the order nor a pixel depends on them.

    Raises: DataError when a file has become unreadable since the scan; ResourceError when a process dies.
    """
    if batch < 1 or workers < 0 or prefetch < 1:
        raise UsageError(f"batch is {batch}, workers {workers}, prefetch {prefetch}; allowed are at least 1, 0 and 1")
    indices = np.arange(len(split)) if order is None else np.asarray(order, np.int64)
    if indices.size and not (0 <= indices.min() and indices.max() < len(split)):
        raise UsageError(f"order holds indices {indices.min()} to {indices.max()}; the split has {len(split)} images")
    groups = [indices[start : start + batch] for start in range(0, len(indices), batch)]
    if isinstance(split, EncodedSplit) and workers and groups and threads_suffice(split):
        return stream(split, groups, preprocess, threads=workers, ahead=prefetch)
    if isinstance(split, EncodedSplit) and workers and groups:
        return _decoded_elsewhere(split, preprocess, groups, min(workers, len(groups)), prefetch)
    return _decoded_here(split, preprocess, groups)


def threads_suffice(split: EncodedSplit) -> bool:
    """Tell whether threads decode these images without waiting for each other: raw pixels, or JPEGs."""
    first = split.sources[0]
    return (isinstance(first, Extent) and bool(first.shape)) or is_jpeg(first)


def _decoded_here(split: Split, preprocess: Preprocess, groups: list[NDArray[np.int64]]) -> Iterator[Batch]:
    for group in groups:
        if isinstance(split, ResidentSplit):
            x_nhwc = split.view(group, preprocess)
        else:
            x_nhwc = np.empty((len(group), preprocess.height, preprocess.width, preprocess.channels), np.uint8)
            for place, index in enumerate(group):
                x_nhwc[place] = resize(split.image(int(index)), preprocess)
        yield x_nhwc, split.labels[group], group


def _decoded_elsewhere(
    split: EncodedSplit, preprocess: Preprocess, groups: list[NDArray[np.int64]], workers: int, prefetch: int
) -> Iterator[Batch]:
    shape = (preprocess.height, preprocess.width, preprocess.channels)
    slots = workers * prefetch
    slot_bytes = int(np.prod(shape)) * len(groups[0])
    tasks = (
        ([(split.sources[index], split.names[index], split.max_pixels) for index in group], preprocess, number % slots * slot_bytes)
        for number, group in enumerate(groups)
    )
    with Pool(workers, decode_into, slots * slot_bytes) as pool:
        assert pool.shared is not None
        for number, (group, _) in enumerate(zip(groups, pool.results(tasks, ahead=prefetch), strict=True)):
            view = np.frombuffer(pool.shared, np.uint8, int(np.prod(shape)) * len(group), number % slots * slot_bytes)
            x_nhwc = view.reshape(len(group), *shape).copy()
            del view
            yield x_nhwc, split.labels[group], group


def decode_into(task: tuple[list[tuple[Encoded, str, int]], Preprocess, int], shared: mmap.mmap) -> None:
    """Decode and resize some images into shared memory from an offset on."""
    sources, preprocess, offset = task
    shape = (preprocess.height, preprocess.width, preprocess.channels)
    out = np.frombuffer(shared, np.uint8, int(np.prod(shape)) * len(sources), offset).reshape(len(sources), *shape)
    for place, arguments in enumerate(sources):
        out[place] = resize(decode(*arguments), preprocess)
