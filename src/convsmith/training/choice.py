"""The training a data set gets when the user asks for none in particular, with the reasons."""

from __future__ import annotations

import numpy as np

from convsmith.data.dataset import Dataset
from convsmith.data.preprocess import Preprocess
from convsmith.training import mirroring
from convsmith.training.config import Augment, Schedule, Training

SMALL_SIDE = 64
IMAGES_SEEN = 600_000
MOST_EPOCHS = 120


def choose(
    dataset: Dataset, preprocess: Preprocess, time_s: float | None = None, model: str | None = None
) -> tuple[Training, tuple[str, ...]]:
    """Return a training for the images at hand and, in plain words, the reason of every choice that depends on them."""
    n, side = len(dataset.train), min(preprocess.height, preprocess.width)
    epochs, why_epochs = _epochs(n, side)
    augment, why_augment = _augment(dataset, preprocess)
    batch, why_batch = _batch(n)
    weights, why_weights = _balance(dataset)
    rate = 0.01 * (batch / 128) ** 0.5
    reasons = [why_epochs, why_batch, *why_augment, *why_weights]
    reasons.append(f"AdamW, one-cycle up to {rate:.3g}: reaches its end in the planned time, with the last third for fine steps")
    if time_s:
        reasons.append(f"{time_s:g} s allowed: the number of updates is set from measured step times")
    config = Training(
        epochs=epochs,
        time_s=time_s,
        batch=batch,
        optimizer="adamw",
        learning_rate=round(rate, 4),
        weight_decay=0.05,
        schedule=Schedule(kind="one_cycle", rise=0.25, start=0.1),
        label_smoothing=0.05,
        class_weights=weights,
        ema=0.0,
        augment=augment,
    )
    return config, tuple(reasons)


def _epochs(n: int, side: int) -> tuple[float, str]:
    seen = IMAGES_SEEN if side <= SMALL_SIDE else IMAGES_SEEN // 10
    epochs = float(min(MOST_EPOCHS, max(10, round(seen / n))))
    return epochs, f"{epochs:g} epochs: {n:,} training images are seen {epochs * n:,.0f} times in all"


def _batch(n: int) -> tuple[int, str]:
    batch = int(min(256, max(16, 2 ** round(np.log2(max(1, n) / 40)))))
    return batch, f"batches of {batch}: some forty updates an epoch, at most 256 images"


def _augment(dataset: Dataset, preprocess: Preprocess) -> tuple[Augment, list[str]]:
    answer = mirroring.ask(dataset.train, preprocess)
    reasons = [f"images are {'also mirrored' if answer.allowed else 'not mirrored'}: {answer}"]
    side = min(preprocess.height, preprocess.width)
    if side > SMALL_SIDE:
        reasons.append("photos: moved, turned, scaled and lit at random, because the same thing may stand anywhere")
        return Augment(flip=answer.allowed, shift=0.1, rotate=10, scale=0.25, light=0.3), reasons
    if answer.allowed:
        reasons.append("small images: moved by up to a twelfth of the side")
        return Augment(flip=True, shift=1 / 12), reasons
    reasons.append("small images that differ from their mirror images, as characters do: moved, turned, scaled and slanted a little")
    return Augment(shift=1 / 14, rotate=10, scale=0.1, shear=0.1), reasons


def _balance(dataset: Dataset) -> tuple[str, list[str]]:
    counts = np.bincount(dataset.train.labels, minlength=len(dataset.classes))
    present = counts[counts > 0]
    ratio = present.max() / present.min()
    if ratio <= 10:
        return "none", []
    return "balanced", [f"the largest class has {ratio:.0f} times the images of the smallest: every class counts the same in the loss"]
