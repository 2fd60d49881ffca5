"""Scores of images from an exported file, without torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convsmith.data.preprocess import to_channels
from convsmith.errors import UsageError
from convsmith.targets.sessions import Session, load

BATCH_PIXELS = 4_000_000  # a batch holds at most this many pixels, or one image


def predict(
    source: Path | str | Session, images: Iterable[NDArray[np.uint8]], *, batch: int = 16, threads: int | None = None
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Return the softmax scores of each image, in order, and the names of the classes (the columns).

    Images may differ in size; neighbours of one size are run together. Nothing is held but one batch and the scores.

    Shapes: images uint8 ``(h, w)``, ``(h, w, 1)`` or ``(h, w, 3)`` to float32 ``(n, classes)``.
    """
    session = source if isinstance(source, Session) else load(source, threads=threads)
    parts = [scores for _, scores, _ in outputs(session, images, batch=batch)]
    empty = np.empty((0, len(session.labels)), np.float32)
    return (np.concatenate(parts) if parts else empty), session.labels


def outputs(
    session: Session, images: Iterable[NDArray[np.uint8]], *, batch: int = 16
) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.float32]]]:
    """Yield ``(index of the first, scores, logits)`` of each run of at most ``batch`` neighbours of one size."""
    if batch < 1:
        raise UsageError(f"batch is {batch}; it must be at least 1")
    first, held = 0, list[NDArray[np.uint8]]()
    for index, image in enumerate(images):
        image = checked(image, session.preprocess.channels, index)
        full = held and (held[0].shape != image.shape or len(held) == batch or (len(held) + 1) * image.size > 3 * BATCH_PIXELS)
        if full:
            yield (first, *_run(session, held))
            first, held = index, []
        held.append(image)
    if held:
        yield (first, *_run(session, held))


def _run(session: Session, images: list[NDArray[np.uint8]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    scores, logits = session.run(np.stack(images))
    return scores, logits


def checked(image: NDArray[Any], channels: int, index: int = 0) -> NDArray[np.uint8]:
    """Return the image as uint8 ``(h, w, channels)``; ``UsageError`` says what else it is."""
    array = np.asarray(image)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] not in (1, 3) or not array.size:
        raise UsageError(
            f"image {index} is {array.dtype} of shape {np.shape(image)}; give uint8 pixels (height, width, 1 or 3), upright, not normalised"
        )
    return to_channels(array, channels)
