"""One arm of an experiment with one seed: trained, tested, and kept as a row."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil
import torch

from convsmith import models, training
from convsmith.errors import DivergenceError, ResourceError
from convsmith.training.config import Training
from convsmith.training.reproductions.images import Images
from convsmith.training.reproductions.paper import Arm, Experiment, Setup

Shown = Callable[..., None]

COPIES: Final = 16
"""Float32 copies of the parameters at the worst moment of an update: gradients, moments, what was read, updates."""

FIXED_BYTES: Final = 600_000_000
"""What torch and the interpreter hold before any network is there."""


@dataclass(frozen=True)
class Row:
    """What one arm with one seed gave. ``error``: of the test images in percent; a training that diverged counts as guessing.

    ``wrong``: the test images that it got wrong, so that two arms can be compared image by image. ``source``: file or folder of the images.
    """

    experiment: str
    arm: str
    seed: int
    error: float
    val_error: float
    epochs: float
    updates: int
    images: int
    tested: int
    seconds: float
    diverged: bool
    wrong: tuple[int, ...]
    source: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"wrong": list(self.wrong)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Row:
        """Return a row that `to_dict` wrote; fields of later versions are passed over."""
        known = {field.name for field in fields(cls)}
        return cls(**{key: value for key, value in values.items() if key in known} | {"wrong": tuple(values["wrong"])})


def slug(experiment: Experiment, arm: Arm, seed: int) -> str:
    """Return the name of a row's file."""
    words = re.sub("[^a-z0-9]+", "-", arm.name.lower()).strip("-")
    return f"{experiment.key}_{words}_{seed}"


def settings(arm: Arm, setup: Setup, seed: int, *, threads: int = 0, device: str = "auto") -> Training:
    """Return the training of an arm: the setup's, with what is the arm's own, its plan and the seed.

    Rounding is emulated on the processor, so an arm with a plan computes there whatever ``device`` says. On a processor results repeat
    bit for bit; on a GPU torch has no deterministic form of every operation.
    """
    place = "cpu" if arm.plan is not None else device
    on_processor = place == "cpu" or not torch.cuda.is_available()
    own: dict[str, Any] = {"seed": seed, "threads": threads, "device": place, "precision": "float32", "deterministic": on_processor}
    if arm.plan is not None:
        own["plan"] = arm.plan.to_dict()
    return Training.model_validate(setup.training.model_dump() | dict(arm.training) | own)


def needed_bytes(experiment: Experiment, setup: Setup, images: int) -> int:
    """Return about what memory a run takes: parameters in all their copies, images, activations of one batch, and what torch takes."""
    entry = models.ZOO[experiment.model]
    with torch.device("meta"):
        network = models.load(experiment.model, in_channels=entry.input[0], input_size=entry.input[1:], **setup.options)
    parameters = sum(p.numel() for p in network.parameters())
    pixels = int(np.prod(entry.input)) * (images + 15_000)
    batch = setup.training.batch if isinstance(setup.training.batch, int) else 512
    activations = 40 * 4 * batch * int(np.prod(entry.input)) * 16
    return FIXED_BYTES + COPIES * 4 * parameters + pixels + activations


def require_memory(experiment: Experiment, setup: Setup, images: int) -> None:
    """Raise ResourceError when less memory is free than an experiment takes."""
    needed, free = needed_bytes(experiment, setup, images), psutil.virtual_memory().available
    if needed > free:
        raise ResourceError(
            f"{experiment.key} takes about {needed / 1e9:.1f} GB of memory and {free / 1e9:.1f} GB are free; close other programs, "
            "take --quick, or name smaller experiments with --only"
        )


def run_arm(
    experiment: Experiment, arm: Arm, setup: Setup, seed: int, images: Images, *, folder: Path, show: Shown, threads: int, device: str
) -> Row:
    """Train and test one arm; checkpoints go to ``folder``, from which an interrupted run goes on.

    Raises: KeyboardInterrupt after Ctrl-C, once the checkpoint is written.
    """
    begin = time.perf_counter()
    shape, dataset = images.preprocess, images.dataset
    torch.manual_seed(seed)
    options: dict[str, Any] = {"in_channels": shape.channels, "input_size": (shape.height, shape.width)} | dict(setup.options)
    network = models.load(experiment.model, classes=len(dataset.classes), **options)
    config = settings(arm, setup, seed, threads=threads, device=device)
    tested, labels = len(dataset.test), dataset.test.labels
    shared: dict[str, Any] = {"experiment": experiment.key, "arm": arm.name, "seed": seed, "source": images.source.name}
    shared |= {"images": len(dataset.train), "tested": tested}
    try:
        fit = training.fit(network, dataset, config, preprocess=shape, resume=True, progress=show, checkpoints_in=folder)
    except DivergenceError:
        wrong = np.flatnonzero(labels != np.bincount(dataset.train.labels).argmax())
        return Row(
            **shared,
            error=100 * len(wrong) / tested,
            val_error=100.0,
            epochs=0.0,
            updates=0,
            seconds=time.perf_counter() - begin,
            diverged=True,
            wrong=tuple(wrong.tolist()),
        )
    if fit.stopped_by == "interrupt":
        raise KeyboardInterrupt
    wrong = np.flatnonzero(training.score(fit.network, dataset.test, shape).argmax(1) != labels)
    return Row(
        **shared,
        error=100 * len(wrong) / tested,
        val_error=100 * (1 - fit.best_accuracy),
        epochs=fit.epochs_done,
        updates=fit.steps_done,
        seconds=fit.seconds,
        diverged=False,
        wrong=tuple(wrong.tolist()),
    )
