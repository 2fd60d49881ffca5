"""What a changed network makes of its answers, image by image."""

from __future__ import annotations

from typing import Any

import numpy as np

from convsmith.errors import DataError

Array = np.ndarray[Any, Any]


def answer_noise(logits: Array, changed: Array) -> float:
    """Return the mean over images of d^2 / (m^2 + d^2), about the probability that the answer changes.

    m is the margin of the best class over the second in ``logits``, d what ``changed`` takes from the margin of that class over all others.
    Unlike a count of changed answers it tells small changes apart, and that of several small ones adds up.

    Raises: ``DataError`` without images or with fewer than two classes.
    References: Sakr, Kim, Shanbhag 2017, Analytical guarantees on numerical precision of deep neural networks, ICML, equation 3.
    """
    if logits.ndim != 2 or logits.shape[0] < 1 or logits.shape[1] < 2 or logits.shape != changed.shape:
        raise DataError(f"scores of images are (n, classes), at least one and two; got {logits.shape} and {changed.shape}")
    rows, best = np.arange(len(logits)), logits.argmax(1)
    before, after = (margin_of(scores.astype(np.float64), rows, best) for scores in (logits, changed))
    difference = np.square(before - after)
    return float((difference / np.maximum(np.square(before) + difference, 1e-300)).mean())


def margin_of(logits: Array, rows: Array, best: Array) -> Array:
    """Return the score of one class of each image less the best of the others."""
    others = logits.copy()
    others[rows, best] = -np.inf
    return np.asarray(logits[rows, best] - others.max(1))
