"""What a classifier's logits say about it: accuracy with its interval, each class, confusion, calibration, worst mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convsmith.analysis.calibration import Calibration, calibrate, check_logits, log_probabilities
from convsmith.analysis.significance import wilson
from convsmith.errors import DataError


@dataclass(frozen=True)
class ClassScore:
    """One class. Precision is 0 when it was never predicted, recall 0 when it has no image (``support`` 0)."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Mistake:
    """A wrong prediction: the image's index in the split, class indices, and the confidence in the wrong class."""

    index: int
    true: int
    predicted: int
    confidence: float


@dataclass(frozen=True)
class Evaluation:
    """A classifier measured on ``n`` images. Shares are 0..1; ``interval`` is the 95 % Wilson interval of ``top1``.

    ``top5`` is 1 by definition with five classes or fewer. ``confusion``: rows are true classes, columns predictions.
    ``calibration`` is at temperature 1, ``calibrated`` at the fitted temperature if one was given.
    ``mistakes``: the most confident ones, worst first.
    """

    n: int
    classes: tuple[str, ...]
    top1: float
    top5: float
    interval: tuple[float, float]
    log_loss: float
    per_class: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    calibration: Calibration
    calibrated: Calibration | None
    mistakes: tuple[Mistake, ...]

    @property
    def macro_f1(self) -> float:
        """Mean F1 over the classes that have images."""
        return float(np.mean([score.f1 for score in self.per_class if score.support]))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON takes; ``from_dict`` gives an equal record back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Evaluation:
        calibrated = fields["calibrated"]
        return cls(
            **{
                **fields,
                "classes": tuple(fields["classes"]),
                "interval": (fields["interval"][0], fields["interval"][1]),
                "per_class": tuple(ClassScore(**item) for item in fields["per_class"]),
                "confusion": tuple(tuple(row) for row in fields["confusion"]),
                "calibration": Calibration.from_dict(fields["calibration"]),
                "calibrated": None if calibrated is None else Calibration.from_dict(calibrated),
                "mistakes": tuple(Mistake(**item) for item in fields["mistakes"]),
            }
        )


def evaluate(
    logits: ArrayLike, labels: ArrayLike, classes: Sequence[str], *, temperature: float | None = None, bins: int = 15, mistakes: int = 25
) -> Evaluation:
    """Measure a classifier from its logits; equal scores are resolved to the lower class index, as argmax does.

    ``temperature``: from ``fit_temperature`` on other images than these. ``mistakes``: how many of the worst to keep.

    Shapes: logits ``(n, classes)``, labels int ``(n,)``.
    Raises: DataError when there is no image, fewer than two classes, a logit that is not finite, or sizes that do not agree.
    """
    scores, truth = check_logits(logits, labels)
    if len(classes) != scores.shape[1]:
        raise DataError(f"there are {len(classes)} class names for {scores.shape[1]} logits; they must be as many")
    predicted = scores.argmax(axis=1)
    right = predicted == truth
    confusion = confusion_matrix(truth, predicted, len(classes))
    calibration = calibrate(scores, truth, bins=bins)
    return Evaluation(
        n=len(truth),
        classes=tuple(classes),
        top1=float(right.mean()),
        top5=float((_rank(scores, truth) < 5).mean()),
        interval=wilson(int(right.sum()), len(truth)),
        log_loss=calibration.log_loss,
        per_class=_per_class(confusion, classes),
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
        calibration=calibration,
        calibrated=None if temperature is None else calibrate(scores, truth, temperature=temperature, bins=bins),
        mistakes=_worst(scores, truth, predicted, mistakes),
    )


def confusion_matrix(labels: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Count each pair of true class (row) and predicted class (column): int64 ``(classes, classes)``."""
    return np.bincount(labels * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def _rank(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of classes that come before the true one when scores fall, ties in index order."""
    own = scores[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(scores.shape[1])[None, :] < labels[:, None]
    return np.asarray(((scores > own) | ((scores == own) & earlier)).sum(axis=1))


def _per_class(confusion: NDArray[np.int64], classes: Sequence[str]) -> tuple[ClassScore, ...]:
    hits, support, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    precision, recall = hits / np.maximum(predicted, 1), hits / np.maximum(support, 1)
    f1 = 2 * hits / np.maximum(predicted + support, 1)
    return tuple(ClassScore(name, float(precision[i]), float(recall[i]), float(f1[i]), int(support[i])) for i, name in enumerate(classes))


def _worst(scores: NDArray[np.float64], labels: NDArray[np.int64], predicted: NDArray[np.int64], limit: int) -> tuple[Mistake, ...]:
    confidence = np.exp(log_probabilities(scores).max(axis=1))
    wrong = np.flatnonzero(predicted != labels)
    order = wrong[np.argsort(-confidence[wrong], kind="stable")][:limit]
    return tuple(Mistake(int(i), int(labels[i]), int(predicted[i]), float(confidence[i])) for i in order)
