"""What memory a network takes, in use and in training, and the largest batch that fits."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from convsmith.errors import UnsupportedError, UsageError
from convsmith.jobs.subject import Subject
from convsmith.jobs.text import size

if TYPE_CHECKING:
    from convsmith.data.preprocess import Preprocess


def memory(subject: Subject, batch: int, training_batch: int, limit_bytes: int | None) -> dict[str, Any]:
    """Return the bytes of inference with ``batch`` and of training with ``training_batch`` images at once (0: not asked for).

    ``limit_bytes``: also the largest batch of each that fits. ``note`` says why a training cannot be predicted.
    """
    from convsmith import analysis
    from convsmith.training.largest_batch import largest_batch

    @functools.cache
    def inference(images: int) -> int:
        report = analysis.analyse(subject.graph, images)
        return report.weight_bytes + report.peak.activation_bytes

    found: dict[str, Any] = {"inference": {"batch": batch, "bytes": inference(batch)}}
    if limit_bytes is not None:
        found |= {"limit_bytes": limit_bytes}
        found["inference"]["largest_batch"] = largest_batch(inference, limit_bytes)
    if training_batch:
        try:
            found["training"] = _training(subject, training_batch, limit_bytes)
        except (UnsupportedError, UsageError) as error:
            found["note"] = f"the memory of a training is not known: {error}"
    return found


def _training(subject: Subject, batch: int, limit_bytes: int | None) -> dict[str, Any]:
    from convsmith import training
    from convsmith.training.footprint import Footprint, footprint
    from convsmith.training.largest_batch import largest_batch

    module, preprocess, classes = subject.module(), _preprocess(subject), subject.graph.outputs[0].shape[-1]

    @functools.cache
    def need(images: int) -> Footprint:
        return footprint(module, preprocess, classes, training.Training(batch=images), val_images=0)

    one = need(batch)
    parts = ("process_bytes", "copies_bytes", "optimizer_bytes", "gradient_bytes", "step_bytes", "kept_bytes", "total_bytes")
    found = {"batch": batch, **{name: getattr(one, name) for name in parts}}
    if limit_bytes is not None:
        found["largest_batch"] = largest_batch(lambda images: need(images).total_bytes, limit_bytes)
    return found


def _preprocess(subject: Subject) -> Preprocess:
    from convsmith.data.preprocess import Preprocess

    if subject.preprocess is not None:
        return subject.preprocess
    shape = subject.graph.inputs[0].shape
    if len(subject.graph.inputs) != 1 or len(shape) != 4 or shape[1] not in (1, 3) or min(shape[1:]) < 1:
        raise UnsupportedError(f"predicted is the training on images, and the network reads {'x'.join(map(str, shape))}")
    half = (0.5,) * shape[1]
    return Preprocess(shape[2], shape[3], shape[1], mean=half, std=half)


def sentences(found: dict[str, Any]) -> list[str]:
    """Return what was found as sentences."""
    used = found["inference"]
    told = [f"Inference of {_images(used['batch'])} holds {size(used['bytes'])} of weights and activations."]
    trained = found.get("training")
    if trained:
        parts = ", ".join(
            f"{size(trained[key])} {name}"
            for key, name in (
                ("process_bytes", "process and weights"),
                ("copies_bytes", "second weights"),
                ("optimizer_bytes", "moments"),
                ("gradient_bytes", "gradients"),
                ("step_bytes", "activations"),
                ("kept_bytes", "holes of the heap"),
            )
        )
        told.append(f"Training with {_images(trained['batch'])} an update takes about {size(trained['total_bytes'])}: {parts}.")
    if "limit_bytes" in found:
        fits: Sequence[tuple[str, Any]] = [("inference", used), *([("training", trained)] if trained else [])]
        fit = ", ".join(f"{_images(part['largest_batch'])} in {what}" for what, part in fits)
        told.append(f"In {size(found['limit_bytes'])} fit {fit}.")
    return told + ([found["note"]] if "note" in found else [])


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count:,} images"
