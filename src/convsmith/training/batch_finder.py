"""The batch that is fast and fits: real updates of growing batches in a process of their own, its memory measured."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import psutil
import torch
from torch import nn

from convsmith.data.preprocess import Preprocess
from convsmith.data.workers import Pool
from convsmith.errors import ResourceError, UsageError
from convsmith.training.augmentation import stored_preprocess
from convsmith.training.config import Training
from convsmith.training.feed import Part
from convsmith.training.network import device_of
from convsmith.training.results import peak_memory_bytes
from convsmith.training.updates import Updater

MARGIN = 0.2
"""Part of the free memory that stays free: the rest of the machine moves, and allocators leave holes."""

SMALLEST = 8
LEAST_UPDATES = 10
"""Updates an epoch must keep: fewer, and the few images teach little."""

ENOUGH = 0.9
"""Part of the best speed that the chosen batch must reach."""


@dataclass(frozen=True)
class BatchTrial:
    """One size. ``peak_bytes``: of its process, None where it was not tried or did not end; ``predicted_bytes``: from those before."""

    batch: int
    peak_bytes: int | None
    predicted_bytes: int | None
    images_per_s: float | None
    fits: bool


@dataclass(frozen=True)
class BatchSearch:
    """``chosen``: the smallest within a tenth of the best speed; ``largest``: the largest that fits; ``limit_bytes``: what it may take."""

    chosen: int
    largest: int
    limit_bytes: int
    trials: tuple[BatchTrial, ...]
    reason: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class _Task:
    build: Callable[[], nn.Module]
    preprocess: Preprocess
    config: dict[str, Any]
    threads: int
    classes: int


def find_batch(
    build: Callable[[], nn.Module],
    preprocess: Preprocess,
    classes: int,
    images: int,
    config: Training,
    *,
    held_bytes: int = 0,
    limit_bytes: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> BatchSearch:
    """Return the smallest batch of nearly the best speed among those that leave a fifth of the free memory free.

    Sizes double from 8 while an epoch of ``images`` keeps ten updates. Each is tried by two whole updates in another process, which may
    die without harm; one that two smaller ones predict not to fit is not tried. ``build``: a function that can be pickled, for example
    a partial of `models.load`. ``held_bytes``: what the training images will take beside it.

    Raises: ResourceError when not even the smallest fits.
    """
    limit = limit_bytes if limit_bytes is not None else int((1 - MARGIN) * _free_bytes(config)) - held_bytes
    most = max(SMALLEST, images // LEAST_UPDATES)
    sizes = [SMALLEST * 2**power for power in range(20) if SMALLEST * 2**power <= most]
    task = _Task(build, preprocess, config.model_dump(mode="json"), config.threads or torch.get_num_threads(), classes)
    trials: list[BatchTrial] = []
    with Pool(1, _measure) as pool:
        for number, size in enumerate(sizes):
            trials.append(_try(pool, task, size, limit, trials))
            if progress:
                progress(number + 1, len(sizes))
            if not trials[-1].fits:
                break
    return _choose(trials, limit)


def _free_bytes(config: Training) -> int:
    if device_of(config).type == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    return int(psutil.virtual_memory().available)


def _try(pool: Pool, task: _Task, size: int, limit: int, before: list[BatchTrial]) -> BatchTrial:
    predicted = _predict(size, before)
    if predicted is not None and predicted > limit:
        return BatchTrial(size, None, predicted, None, False)
    try:
        peak, seconds = next(pool.results([(task, size)]))
    except ResourceError:  # the process died
        return BatchTrial(size, None, predicted, None, False)
    return BatchTrial(size, peak, predicted, size / seconds, peak <= limit)


def _predict(size: int, before: list[BatchTrial]) -> int | None:
    """Return the memory on the straight line through the last two trials."""
    known = [(trial.batch, trial.peak_bytes) for trial in before if trial.peak_bytes is not None]
    if len(known) < 2:
        return None
    (a, low), (b, high) = known[-2:]
    return int(high + max(0, high - low) * (size - b) / (b - a))


def _choose(trials: list[BatchTrial], limit: int) -> BatchSearch:
    speeds = {trial.batch: trial.images_per_s for trial in trials if trial.fits and trial.images_per_s}
    if not speeds:
        raise ResourceError(
            f"not even a batch of {trials[0].batch} fits into {limit / 1e9:.1f} GB; use smaller images (--size), a smaller model, or "
            "--set training.accumulate=4"
        )
    fastest = max(speeds.values())
    chosen = min(batch for batch, speed in speeds.items() if speed >= ENOUGH * fastest)
    largest, last = max(speeds), trials[-1]
    told = f"{largest} is the largest that fits into {limit / 1e9:.1f} GB" if not last.fits else f"{largest} fits too"
    reason = f"{speeds[chosen]:,.0f} images/s, at least nine tenths of the fastest of {len(speeds)} sizes that were tried; {told}"
    return BatchSearch(chosen, largest, limit, tuple(trials), reason)


def _measure(task: tuple[_Task, int]) -> tuple[int, float]:
    """Do two updates of a batch of made images; return the largest memory of this process so far, and the seconds of the faster update."""
    described, size = task
    config = Training.model_validate({**described.config, "batch": size})
    torch.set_num_threads(described.threads)
    device = device_of(config)
    stored = stored_preprocess(described.preprocess, config.augment)
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.integers(0, 256, (size, stored.height, stored.width, stored.channels), np.uint8))
    labels = torch.from_numpy(rng.integers(0, described.classes, size))
    module = described.build().to(device)
    updater = Updater(module, config, described.preprocess, None, axes=torch.zeros(3, 3))
    module.train()
    seconds = []
    try:
        for step in range(2):
            began = time.perf_counter()
            updater.update([Part(x, labels, np.arange(size), 0)], 1, size, step, 1e-8)
            seconds.append(time.perf_counter() - began)
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, MemoryError) or "memory" in str(error):
            raise ResourceError("the memory ran out") from None
        raise UsageError(f"a batch of {size} images cannot be computed: {error}") from None
    peak = torch.cuda.max_memory_reserved() if device.type == "cuda" else peak_memory_bytes()
    return peak, min(seconds)
