"""Whether a confidence of 90 % is right nine times in ten, and the one temperature that brings it nearer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convsmith.errors import DataError, UsageError

TEMPERATURE_RANGE = (0.05, 20.0)


@dataclass(frozen=True)
class Bin:
    """Images whose confidence lies in ``(low, high]``; means are 0 when the bin is empty."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """Expected calibration error, log loss and the reliability bins at one temperature."""

    temperature: float
    ece: float
    log_loss: float
    bins: tuple[Bin, ...]

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Calibration:
        return cls(**{**fields, "bins": tuple(Bin(**item) for item in fields["bins"])})


def log_probabilities(logits: ArrayLike, temperature: float = 1.0) -> NDArray[np.float64]:
    """Return the logarithm of the softmax of ``logits / temperature``, in float64 and safe from overflow.

    Shapes: ``(n, classes)`` in and out.
    """
    scaled = np.asarray(logits, np.float64) / temperature
    scaled = scaled - scaled.max(axis=1, keepdims=True)
    return np.asarray(scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True)))


def check_logits(logits: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return logits as float64 ``(n, classes)`` and labels as int64 ``(n,)``.

    Raises: DataError when empty, not finite, of one class, or when a label has no column.
    """
    scores, truth = np.asarray(logits, np.float64), np.asarray(labels)
    if scores.ndim != 2 or truth.ndim != 1 or len(scores) != len(truth):
        raise DataError(f"logits have shape {scores.shape} and labels {truth.shape}; needed are (n, classes) and (n,)")
    if len(truth) == 0:
        raise DataError("there is no image to evaluate; the split is empty")
    if scores.shape[1] < 2:
        raise DataError(f"logits have {scores.shape[1]} class; at least 2 are needed to tell anything apart")
    if not np.issubdtype(truth.dtype, np.integer):
        raise DataError(f"labels are {truth.dtype}; they must be whole numbers, an index into the classes")
    if truth.min() < 0 or truth.max() >= scores.shape[1]:
        raise DataError(
            f"labels run from {truth.min()} to {truth.max()}; with {scores.shape[1]} classes they are 0 to {scores.shape[1] - 1}"
        )
    bad = ~np.isfinite(scores).all(axis=1)
    if bad.any():
        raise DataError(
            f"logits of {int(bad.sum())} of {len(truth)} images are not finite (first: image {int(bad.argmax())}); "
            "the network has diverged: train with a lower learning rate or clip the gradient"
        )
    return scores, truth.astype(np.int64)


def calibrate(logits: ArrayLike, labels: ArrayLike, *, temperature: float = 1.0, bins: int = 15) -> Calibration:
    """Measure calibration in ``bins`` confidence bins of equal width; the confidence is that of the predicted class.

    Shapes: logits ``(n, classes)``, labels ``(n,)``.
    References: M. Pakdaman Naeini et al., AAAI 2015 (expected calibration error); C. Guo et al., 2017, arXiv:1706.04599, eq. 3.
    Raises: UsageError on a temperature or number of bins that is not positive.
    """
    scores, truth = check_logits(logits, labels)
    if not (math.isfinite(temperature) and temperature > 0) or bins < 1:
        raise UsageError(f"temperature {temperature} with {bins} bins; both must be more than 0")
    log_p = log_probabilities(scores, temperature)
    confidence, right = np.exp(log_p.max(axis=1)), scores.argmax(axis=1) == truth
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    filled = np.maximum(count, 1)
    mean_confidence = np.bincount(place, weights=confidence, minlength=bins) / filled
    accuracy = np.bincount(place, weights=right, minlength=bins) / filled
    return Calibration(
        temperature=float(temperature),
        ece=float((count * np.abs(mean_confidence - accuracy)).sum() / len(truth)),
        log_loss=float(-log_p[np.arange(len(truth)), truth].mean()),
        bins=tuple(
            Bin(float(edges[i]), float(edges[i + 1]), int(count[i]), float(mean_confidence[i]), float(accuracy[i])) for i in range(bins)
        ),
    )


def chance_error(calibration: Calibration) -> float:
    """Return about the calibration error that the same confidences would show if every one of them were exact.

    With few images in a bin the share that is right differs from the confidence by chance: by sqrt(2 p (1 - p) / (pi n)) on average for
    n images of confidence p (normal approximation). An error not much above this is no sign of bad calibration.
    """
    total = sum(item.count for item in calibration.bins)
    spread = (math.sqrt(2 * item.count * item.confidence * max(0.0, 1 - item.confidence) / math.pi) for item in calibration.bins)
    return math.fsum(spread) / total


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """Return the temperature that minimises the log loss of ``softmax(logits / temperature)``; fit it on validation logits.

    The log loss is convex in 1 / temperature, so its derivative is bisected. When every image is right the loss falls for ever
    towards temperature 0 and says nothing about confidence: 1 is returned. The answer is kept within 0.05 to 20.

    Shapes: logits ``(n, classes)``, labels ``(n,)``.
    References: C. Guo et al., On Calibration of Modern Neural Networks, 2017, arXiv:1706.04599, section 4.2.
    """
    scores, truth = check_logits(logits, labels)
    true_score = scores[np.arange(len(truth)), truth]
    if (true_score == scores.max(axis=1)).all():
        return 1.0

    def slope(inverse: float) -> float:
        p = np.exp(log_probabilities(scores, 1 / inverse))
        return float(((p * scores).sum(axis=1) - true_score).mean())

    low, high = 1 / TEMPERATURE_RANGE[1], 1 / TEMPERATURE_RANGE[0]
    if slope(low) >= 0:
        return TEMPERATURE_RANGE[1]
    if slope(high) <= 0:
        return TEMPERATURE_RANGE[0]
    while high - low > 1e-6 * low:
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 2 / (low + high)
