"""Batch and learning rate found by trying, before a training begins."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from convsmith import runs
from convsmith.training.config import Training

if TYPE_CHECKING:
    from torch import nn

    from convsmith.jobs.preparation import Prepared


def find(
    prepared: Prepared, build: Callable[[Prepared], nn.Module], batch: Any, rate: Any, listener: runs.Listener
) -> tuple[dict[str, Any], Training]:
    """Return what each finder saw, the batch first because the rate depends on it, and the settings with what was found."""
    from convsmith import training

    found: dict[str, Any] = {}
    settings = prepared.training
    if batch == "find":
        sizes = _find_batch(prepared, listener)
        found["batch"] = sizes.to_dict()
        settings = settings.model_copy(update={"batch": sizes.chosen})
    if rate == "find":
        changed = dataclasses.replace(prepared, training=settings)
        seen = training.find_rate(
            build(changed),
            prepared.dataset,
            settings,
            prepared.preprocess,
            progress=lambda done, total: listener.progress("find the learning rate", done, total),
        )
        found["learning_rate"] = seen.to_dict()
        settings = settings.model_copy(update={"learning_rate": seen.chosen})
    return found, settings


def _find_batch(prepared: Prepared, listener: runs.Listener) -> Any:
    """Find the batch for an outline of the network: its weights do not matter to time and memory."""
    from convsmith import models, training
    from convsmith.training.feed import fits, pixel_bytes

    shape, dataset, settings = prepared.preprocess, prepared.dataset, prepared.training
    options = dict(prepared.source.options) if prepared.source is not None else {}
    build = functools.partial(
        models.load,
        prepared.model,
        classes=len(dataset.classes),
        in_channels=shape.channels,
        input_size=(shape.height, shape.width),
        **options,
    )
    held = pixel_bytes(dataset.train, shape)
    return training.find_batch(
        build,
        shape,
        len(dataset.classes),
        len(dataset.train),
        settings,
        held_bytes=held if settings.resident is True or (settings.resident == "auto" and fits(held)) else 0,
        progress=lambda done, total: listener.progress("find the batch", done, total),
    )
