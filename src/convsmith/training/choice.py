"""The training a data set gets when the user asks for none in particular, with the reasons."""

from __future__ import annotations

from typing import Literal

import numpy as np

from convsmith.data.dataset import Dataset
from convsmith.data.preprocess import Preprocess
from convsmith.training import mirroring
from convsmith.training.augment_presets import PRESETS
from convsmith.training.config import Augment, Schedule, Training

SMALL_SIDE = 64
MOST_EPOCHS = 60
FEWEST_EPOCHS = 24
HURRY_IMAGES_PER_S = 1000
SPEEDNET = "speednet"
SPEED_EPOCHS = 12
SPEED_BATCH = 256


def choose(
    dataset: Dataset, preprocess: Preprocess, time_s: float | None = None, model: str | None = None
) -> tuple[Training, tuple[str, ...]]:
    """Return a training for the images at hand and, in plain words, the reason of every choice that depends on them.

    ``time_s`` is a limit and not a wish: the epochs are those the images need, fewer where the time does not allow them.
    """
    n = len(dataset.train)
    small = min(preprocess.height, preprocess.width) <= SMALL_SIDE
    hurried = time_s is not None and n > HURRY_IMAGES_PER_S * time_s
    epochs, why_epochs = _epochs(n, small)
    augment, why_augment = _augment(dataset, preprocess, small, hurried)
    batch, why_batch = _batch(n, hurried)
    weights, why_weights = _balance(dataset)
    config = Training(
        epochs=epochs,
        time_s=time_s,
        batch=batch,
        optimizer="adamw",
        learning_rate=0.01 if small else 0.004,
        weight_decay=0.05,
        schedule=Schedule(kind="one_cycle", rise=0.25, start=0.1),
        label_smoothing=0.05,
        class_weights=weights,
        augment=augment,
    )
    if model == SPEEDNET:
        config, why_speed = _speed(config, bool(augment.flip))
        return config, (f"at most {SPEED_EPOCHS} epochs", *why_augment, *why_weights, why_speed)
    reasons = [why_epochs, why_batch, *why_augment, *why_weights]
    reasons.append(
        f"AdamW, one-cycle up to a learning rate of {config.learning_rate:g}: quick, and complete whenever the planned end comes"
    )
    if time_s:
        reasons.append(f"{time_s:g} s allowed: where they do not suffice for all epochs, measured step times set the number of updates")
    return config, tuple(reasons)


def _speed(config: Training, flips: bool) -> tuple[Training, str]:
    """Return the recipe of `models.speednet` (airbench, arXiv 2404.00498, with fewer images an update) and what it is."""
    changed = {
        "epochs": min(config.epochs, SPEED_EPOCHS),
        "batch": SPEED_BATCH,
        "optimizer": "muon",
        "learning_rate": 0.15,
        "momentum": 0.6,
        "weight_decay": 0.01,
        "betas": (0.9, 0.99),
        "schedule": Schedule(kind="one_cycle", rise=0.2, start=0.2),
        "label_smoothing": 0.2,
        "ema": 0.97,
        "augment": config.augment.model_copy(update={"flip": "alternate" if flips else False}),
    }
    told = (
        f"Muon, batches of {SPEED_BATCH}, smooth labels, a running mean of the weights, every image mirrored in every second epoch: "
        "the recipe of speednet"
    )
    return Training.model_validate({**config.model_dump(exclude_unset=True), **changed}), told


def _epochs(n: int, small: bool) -> tuple[float, str]:
    """Fewer images are seen more often: 24 epochs from 10,000 images on, at most 60 of small images and 150 of photos."""
    most = MOST_EPOCHS if small else 150
    epochs = round(min(most, max(FEWEST_EPOCHS, 24 * (10_000 / n) ** 0.5)))
    return float(epochs), f"{epochs} epochs for {n:,} training images: the fewer there are, the more often each is seen"


def _batch(n: int, hurried: bool) -> tuple[int, str]:
    batch = int(min(128 if hurried else 256, max(16, 2 ** round(np.log2(max(1, n) / 40)))))
    return batch, f"batches of {batch}: some forty updates an epoch or more, so that few images still make many updates"


def _augment(dataset: Dataset, preprocess: Preprocess, small: bool, hurried: bool) -> tuple[Augment, list[str]]:
    answer = mirroring.ask(dataset.train, preprocess)
    reasons = [f"images are {'also mirrored' if answer.allowed else 'not mirrored'}: {answer}"]
    if not small:
        reasons.append("photos: moved, turned, scaled and lit at random, because the same thing may stand anywhere")
        return Augment(flip=answer.allowed, **PRESETS["photos"]), reasons
    shift = max(1 / 14, 1 / min(preprocess.height, preprocess.width))
    if hurried:
        reasons.append("small images, little time: moved by a few pixels only, since each is seen a few times only")
        return Augment(flip=answer.allowed, shift=shift), reasons
    if answer.allowed:
        reasons.append("small images: moved by up to a fourteenth of the side, at least a pixel")
        return Augment(flip=True, shift=shift), reasons
    reasons.append("small images that differ from their mirror images, as characters do: moved, turned, scaled and slanted a little")
    return Augment(**PRESETS["characters"]), reasons


def _balance(dataset: Dataset) -> tuple[Literal["none", "balanced"], list[str]]:
    counts = np.bincount(dataset.train.labels, minlength=len(dataset.classes))
    present = counts[counts > 0]
    ratio = present.max() / present.min()
    if ratio <= 10:
        return "none", []
    return "balanced", [f"the largest class has {ratio:.0f} times the images of the smallest: every class counts the same in the loss"]
