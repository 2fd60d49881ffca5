"""Which one stage of a training takes most of its time: short differential trials, synthetic, cached and cold."""

from __future__ import annotations

import copy
import dataclasses
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import psutil
import torch
from torch import nn

from convsmith.data import EncodedSplit, batches, jpeg, pixels, spread
from convsmith.data.dataset import Dataset, Split
from convsmith.data.loader import threads_suffice
from convsmith.data.packed import Extent
from convsmith.data.preprocess import Preprocess
from convsmith.kernels import processor_count
from convsmith.training import losses
from convsmith.training.augmentation import augmented, colour_axes, stored_preprocess, to_input
from convsmith.training.config import Augment, Training
from convsmith.training.feed import Part, fits, pixel_bytes
from convsmith.training.footprint import footprint
from convsmith.training.surroundings import settings
from convsmith.training.updates import Arithmetic, Updater

Stage = Literal["disk", "decode", "augmentation", "copy", "compute", "memory", "Python"]

IMAGES: Final = 128
SMALL: Final = 2
"""Images of the update that shows what an update costs whatever its size; norms need two."""
LARGE: Final = 16
"""Images at least of the one it is compared with."""
PASSES: Final = 8
"""Passes over the weights in an update: forward, backward, their gradient, and those of an optimizer with one moment."""
OF_OPTIMIZER: Final = 5
ROUNDS: Final = 8
BUDGET_S: Final = 3.0
LEAST_S: Final = 0.15
"""A trial is repeated until it lasts about so long."""


@dataclass(frozen=True)
class Fix:
    """What to do: in words, and as settings of the training; ``pack``: put the images into one file first."""

    text: str
    settings: dict[str, Any]
    pack: bool = False


@dataclass(frozen=True)
class Diagnosis:
    """Seconds of each stage for one image of one epoch, the stage that takes most, and what to do about it.

    ``updates_s``: of an image in whole updates from memory. ``need_bytes``: what the training would take, ``limit_bytes``: what it may.
    """

    seconds: dict[Stage, float]
    bottleneck: Stage
    fix: Fix
    updates_s: float
    need_bytes: int
    limit_bytes: int
    resident: bool

    @property
    def total_s(self) -> float:
        return sum(self.seconds.values())

    def to_dict(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "total_s": self.total_s}


def diagnose(
    module: nn.Module,
    dataset: Dataset,
    preprocess: Preprocess,
    config: Training,
    *,
    images: int = IMAGES,
    limit_bytes: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Diagnosis:
    """Time the stages of a training apart on a few of its images, and name the one that takes most.

    Reading is timed with the files put out of the system's cache, decoding from memory, augmentation, conversion and updates on decoded
    images. Where decoded images stay in memory, reading and decoding are paid once and shared by the epochs. An update is split by its
    size: what an update of two images takes beside them is Python and passes over the weights. A training that needs more memory than
    there is has that bottleneck, whatever else is slow. The module is left as it was.

    References: Mohan et al. 2020, Analyzing and Mitigating Data Stalls in DNN Training, arXiv:2007.06775 (differential trials).
    """
    tell = progress or (lambda done, total: None)
    split = _some(dataset.train, images)
    stored = stored_preprocess(preprocess, config.augment)
    held = pixel_bytes(dataset.train, stored)
    resident = fits(held) if config.resident == "auto" else config.resident
    share = 1 / max(1.0, config.epochs) if resident else 1.0
    limit = psutil.virtual_memory().available + psutil.Process().memory_info().rss if limit_bytes is None else limit_bytes
    need = footprint(module, preprocess, len(dataset.classes), config, data_bytes=held if resident else 0).total_bytes
    with settings(config):
        tell(0, 3)
        seconds: dict[Stage, float] = dict.fromkeys(("disk", "decode", "augmentation", "copy", "compute", "memory", "Python"), 0.0)
        disk_s, decode_s = _read_and_decoded(split, stored, config)
        seconds["disk"], seconds["decode"] = share * disk_s, share * decode_s
        tell(1, 3)
        x_nhwc = torch.from_numpy(pixels(split, stored, workers=config.workers))
        seconds["augmentation"], seconds["copy"] = _changed(x_nhwc, config.augment, preprocess)
        tell(2, 3)
        plain = torch.from_numpy(pixels(split, preprocess, workers=config.workers)) if stored != preprocess else x_nhwc
        updates = _Updates(module, dataset, preprocess, config, plain, torch.from_numpy(np.array(split.labels)))
        compute_s, memory_s, python_s, updates_s = updates.parts(seconds["copy"])
        seconds |= {"compute": compute_s, "memory": memory_s, "Python": python_s}
        tell(3, 3)
        worst: Stage = "memory" if need > limit else max(seconds, key=lambda stage: seconds[stage])
        fix = _fix(worst, config, preprocess, need, limit, lambda: _costliest(x_nhwc, config.augment, preprocess), split)
    return Diagnosis(seconds, worst, fix, updates_s, need, limit, bool(resident))


def _some(split: Split, images: int) -> Split:
    """Return evenly spread images of a split."""
    rows = spread(len(split), images)
    if isinstance(split, EncodedSplit):
        return dataclasses.replace(
            split,
            names=[split.names[row] for row in rows],
            sources=[split.sources[row] for row in rows],
            labels=split.labels[rows],
            digests=split.digests[rows],
            extents=split.extents[rows],
        )
    return dataclasses.replace(split, rows=split.rows[rows], labels=split.labels[rows], digests=split.digests[rows])  # type: ignore[type-var, attr-defined]


def _read_and_decoded(split: Split, stored: Preprocess, config: Training) -> tuple[float, float]:
    """Return the seconds of reading an image from the disk and of decoding it from memory, with as many threads as the training."""
    if not isinstance(split, EncodedSplit):
        return 0.0, 0.0
    threads = config.workers or processor_count()
    _forget(split)
    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        raw = list(pool.map(jpeg.encoded_bytes, split.sources))
    disk_s = time.perf_counter() - began
    held = [source if content is None else bytes(content) for source, content in zip(split.sources, raw, strict=True)]
    in_memory = dataclasses.replace(split, sources=held)
    if any(isinstance(source, Extent) and source.shape for source in split.sources):
        in_memory = split  # raw pixels lie in a map, which the reading has filled
    workers = config.workers or (threads if threads_suffice(split) else 0)
    began = time.perf_counter()
    for _ in batches(in_memory, stored, 32, workers=workers):
        pass
    return disk_s / len(split), (time.perf_counter() - began) / len(split)


def _forget(split: EncodedSplit) -> None:
    """Put files out of the system's cache where it allows that, so that reading them is reading the disk."""
    for path in {str(source.path if isinstance(source, Extent) else source) for source in split.sources if not isinstance(source, bytes)}:
        try:
            handle = os.open(path, os.O_RDONLY)
        except OSError:
            continue
        try:
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)


def _changed(x_nhwc: torch.Tensor, augment: Augment, preprocess: Preprocess) -> tuple[float, float]:
    """Return the seconds of augmenting an image beyond those of converting it for the network, and of the latter."""
    copy_s = _least(lambda: to_input(x_nhwc, preprocess)) / len(x_nhwc)
    if augment == Augment():
        return 0.0, copy_s
    return max(0.0, _least(lambda: _augmented(x_nhwc, augment, preprocess)) / len(x_nhwc) - copy_s), copy_s


def _augmented(x_nhwc: torch.Tensor, augment: Augment, preprocess: Preprocess) -> torch.Tensor:
    axes = colour_axes(x_nhwc.numpy()) if augment.lighting and preprocess.channels == 3 else None
    return augmented(x_nhwc, np.arange(len(x_nhwc)), augment, preprocess, seed=0, epoch=0, axes=axes)


def _costliest(x_nhwc: torch.Tensor, augment: Augment, preprocess: Preprocess) -> tuple[str, float]:
    """Return the setting of the augmentation without which it is quickest, and the seconds of an image that it saves."""
    plain = Augment()
    changed = [name for name in Augment.model_fields if getattr(augment, name) != getattr(plain, name)]
    whole = _least(lambda: _augmented(x_nhwc, augment, preprocess))
    saved = {}
    for name in changed:
        without = augment.model_copy(update={name: getattr(plain, name)})
        if stored_preprocess(preprocess, without) == stored_preprocess(preprocess, augment):
            saved[name] = (whole - _least(lambda less=without: _augmented(x_nhwc, less, preprocess))) / len(x_nhwc)  # type: ignore[misc]
    name = max(saved, key=lambda key: saved[key], default=changed[0])
    return name, saved.get(name, 0.0)


class _Updates:
    """Updates of a copy of the network on images in memory, without augmentation."""

    def __init__(
        self, module: nn.Module, dataset: Dataset, preprocess: Preprocess, config: Training, x_nhwc: torch.Tensor, labels: torch.Tensor
    ) -> None:
        still = config.model_copy(update={"augment": Augment(), "learning_rate": 1e-8})
        weights = losses.class_weights(config, dataset.train.labels, len(dataset.classes))
        self.updater = Updater(copy.deepcopy(module).train(), still, preprocess, weights)
        self.updater.compute_in(Arithmetic("float32", config.channels_last is not False))
        wanted = len(dataset.train) if config.batch == "full" else min(config.batch, len(dataset.train))
        self.batch = max(SMALL, min(wanted, 512) // config.accumulate)
        rows = np.resize(np.arange(len(x_nhwc)), max(self.batch, LARGE))
        self.large = Part(x_nhwc[rows], labels[rows], rows, 0, placed=True)
        self.small = Part(x_nhwc[rows[:SMALL]], labels[rows[:SMALL]], rows[:SMALL], 0, placed=True)

    def parts(self, copy_s: float) -> tuple[float, float, float, float]:
        """Return the seconds of an image in arithmetic, in passes over the weights and in Python, and of the whole update."""
        small_s, large_s = self._seconds()
        each_s = max(0.0, (large_s - small_s) / (len(self.large) - SMALL))
        fixed_s = max(0.0, small_s - SMALL * each_s)
        passes_s = min(fixed_s, self._passes_s())
        images = self.batch
        return max(0.0, each_s - copy_s), passes_s / images, (fixed_s - passes_s) / images, each_s + fixed_s / images

    def _seconds(self) -> tuple[float, float]:
        """Return the least seconds of an update of the small and of the large part, measured in turn."""
        best = [float("inf"), float("inf")]
        began = time.perf_counter()
        for turn in range(ROUNDS + 1):
            for place, part in enumerate((self.small, self.large)):
                start = time.perf_counter()
                self.updater.update([part], 1, len(part), 0, 1e-8)
                if turn:  # the first pays for preparations
                    best[place] = min(best[place], time.perf_counter() - start)
            if turn >= 2 and time.perf_counter() - began > BUDGET_S:
                break
        return best[0], best[1]

    def _passes_s(self) -> float:
        """Return the seconds of an update's passes over the weights: those of the optimizer, measured, and in proportion the others."""
        parameters = [p for p in self.updater.module.parameters() if p.grad is not None]
        fresh_s = _least(lambda: [torch.zeros_like(p) for p in parameters])
        return PASSES / OF_OPTIMIZER * _least(self.updater.optimizer.step) + fresh_s


def _least(act: Callable[[], object]) -> float:
    """Return the least seconds of a few calls, the first of which does not count."""
    act()
    best, spent, calls = float("inf"), 0.0, 0
    while calls < 2 or (spent < LEAST_S and calls < 20):
        began = time.perf_counter()
        act()
        taken = time.perf_counter() - began
        best, spent, calls = min(best, taken), spent + taken, calls + 1
    return best


def _fix(
    worst: Stage,
    config: Training,
    preprocess: Preprocess,
    need: int,
    limit: int,
    costliest: Callable[[], tuple[str, float]],
    split: Split,
) -> Fix:
    """Return one thing to do about a bottleneck."""
    batch = 128 if config.batch == "full" else config.batch
    if worst == "disk":
        return Fix("put the images into one file at the size that training needs", {}, pack=True)
    if worst == "decode":
        few = isinstance(split, EncodedSplit) and not threads_suffice(split) and config.workers < processor_count()
        if few and processor_count() > 1:
            return Fix(f"decode in {processor_count()} processes", {"workers": processor_count()})
        return Fix("decode once: put the pixels into one file at the size that training needs", {}, pack=True)
    if worst == "augmentation":
        name, saved_s = costliest()
        plain = getattr(Augment(), name)
        return Fix(f"leave out {name}, which takes {1e3 * saved_s:.3g} ms an image", {"augment": {name: plain}})
    if worst == "copy":
        return Fix("let the network read the layout that images have", {"channels_last": True})
    if worst == "compute":
        side = max(8, round(preprocess.height * 0.75))
        return Fix(f"a smaller input, {side} pixels a side: about half the arithmetic; or a smaller network", {"size": side})
    if worst == "memory" and need > limit:
        parts = min(batch, max(2 * config.accumulate, config.accumulate * -(-need // max(1, limit))))
        return Fix(f"compute each batch in {parts} parts, to the same update", {"accumulate": parts})
    what = "passes over the weights" if worst == "memory" else "Python's work"
    return Fix(f"batches of {4 * batch}: a quarter of the {what} for each image", {"batch": 4 * batch})
