"""What a training will cost, before it starts."""

from __future__ import annotations

import time
from dataclasses import dataclass

import psutil
import torch
from torch import nn

from convsmith.data.dataset import Dataset
from convsmith.data.preprocess import Preprocess
from convsmith.training import losses, planning
from convsmith.training.config import Training
from convsmith.training.feed import Feed, fits, pixel_bytes
from convsmith.training.network import device_of
from convsmith.training.optimizers import moments
from convsmith.training.processes import Team
from convsmith.training.surroundings import settings
from convsmith.training.updates import Arithmetic, Updater

FILE_OVERHEAD_BYTES = 32 * 1024


@dataclass(frozen=True)
class Quote:
    """The expected cost of a run. ``memory_bytes`` is the peak of the whole process, with what it holds already."""

    seconds: float
    memory_bytes: int
    disk_bytes: int
    steps: int
    step_s: float
    arithmetic: Arithmetic


def quote(
    module: nn.Module,
    dataset: Dataset,
    config: Training,
    preprocess: Preprocess,
    calibration_s: float = 0.0,
    teacher: nn.Module | None = None,
) -> Quote:
    """Decode one batch, time a few updates on a copy of the network, and reckon what the whole run will take, its ``teacher`` included.

    ``calibration_s``: how long to run the network warm for its pace, beyond the trial of a second or two that chooses the arithmetic.

    The network and torch's generator are left as they were. The memory starts from what this process holds after those updates, since it
    may be the one that trains: `footprint`, which computes nothing, does not know the holes that they leave in its heap (ResNet-20 at batch
    128 took 1.12 GB after a quote and 0.85 GB without). Other work on the machine makes the quote as wrong as it makes the run slow.
    """
    with settings(config):
        module.to(device_of(config))
        feed = Feed(dataset.train, preprocess, config.model_copy(update={"resident": False, "workers": 0}), Team())
        weights = losses.class_weights(config, dataset.train.labels, len(dataset.classes))
        begin = time.perf_counter()
        images = len(next(feed.read(0)))
        image_s = (time.perf_counter() - begin) / images / max(1, config.workers)
        teacher = None if teacher is None else teacher.to(device_of(config)).eval()
        seconds = planning.trial(module, config, feed, weights, teacher)
        saved_bytes = _saved_bytes(module, config, feed, weights)
    val = dataset.splits.get("val")
    val_images = len(val) if val else 0
    held_bytes = pixel_bytes(dataset.train, feed.stored)
    resident = fits(held_bytes) if config.resident == "auto" else config.resident
    once_s = image_s * (val_images + (len(dataset.train) if resident else 0))
    left_s = None if config.time_s is None else max(0.0, config.time_s - once_s)
    plan = planning.make_plan(config, feed, seconds, val_images, left_s)
    if calibration_s and config.batch != "full":
        with settings(config):
            seconds[plan.arithmetic] = planning.steady(module, config, feed, weights, plan.arithmetic, calibration_s, plan.steps, teacher)
        plan = planning.make_plan(config, feed, seconds, val_images, left_s)
    step_s = seconds[plan.arithmetic] + (0 if resident else image_s * feed.size(0))
    validations = -(-plan.steps // plan.validate_every)
    weight_bytes = _weight_bytes(module)
    return Quote(
        seconds=once_s + plan.steps * step_s + validations * planning.validation_steps(val_images, feed) * seconds[plan.arithmetic],
        memory_bytes=psutil.Process().memory_info().rss
        + (held_bytes if resident else 0)
        + (pixel_bytes(val, preprocess) if val else 0)
        + saved_bytes
        + weight_bytes * (2 + moments(config) + 2 * bool(config.ema)),
        disk_bytes=weight_bytes * (3 + moments(config) + bool(config.ema) + config.snapshots)
        + (2 + config.snapshots) * FILE_OVERHEAD_BYTES,
        steps=plan.steps,
        step_s=step_s,
        arithmetic=plan.arithmetic,
    )


def _weight_bytes(module: nn.Module) -> int:
    return sum(value.numel() * value.element_size() for value in module.state_dict().values())


def _saved_bytes(module: nn.Module, config: Training, feed: Feed, weights: torch.Tensor | None) -> int:
    """Return the memory that the forward pass of one part keeps for the backward pass."""
    held: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    updater = Updater(module, config, feed.preprocess, weights, axes=feed.colour_axes)
    try:
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            logits, _, _ = updater.forward(next(feed.read(0)))
    finally:
        updater.close()
    return sum(held.values()) + logits.numel() * 4
