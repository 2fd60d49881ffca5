"""How good the predictions are: confusion, each class, calibration, worst mistakes."""

from __future__ import annotations

from typing import Any

import numpy as np

from convsmith.analysis import Evaluation, chance_error
from convsmith.report import units
from convsmith.report.charts import confusion_chart, reliability_chart, share_bar
from convsmith.report.mistakes import pictures
from convsmith.report.source import Source

MOST_PAIRS = 10


def build(source: Source) -> dict[str, Any] | None:
    """Return everything that is said about the test images."""
    evaluation = source.evaluation()
    if evaluation is None:
        return None
    wrong = evaluation.n - round(evaluation.top1 * evaluation.n)
    shown = pictures(source)
    return {
        "n": units.count(evaluation.n),
        "part": source.tested_on,
        "top1": units.percent(evaluation.top1, evaluation.n),
        "top5": units.percent(evaluation.top5, evaluation.n) if len(evaluation.classes) > 5 else None,
        "interval": [units.percent(bound, evaluation.n) for bound in evaluation.interval],
        "macro_f1": units.percent(evaluation.macro_f1, evaluation.n),
        "log_loss": units.digits3(evaluation.log_loss),
        "wrong": units.count(wrong),
        "confusion": confusion_chart(evaluation.confusion, evaluation.classes, label=_confusion_words(evaluation)),
        "pairs": _pairs(evaluation),
        "rows": _rows(evaluation),
        "calibration": _calibration(evaluation),
        "mistakes": [
            {**row, "short": str(row["name"]).rpartition("/")[2], "confidence": units.percent(row["confidence"])} for row in shown
        ],
    }


def _confusion_words(evaluation: Evaluation) -> str:
    pairs = _pairs(evaluation)
    head = f"Confusion matrix of {len(evaluation.classes)} classes, true classes in rows. "
    if not pairs:
        return head + "No image was taken for another class."
    return head + "Most frequent: " + "; ".join(f"{p['true']} taken for {p['predicted']}, {p['count']}" for p in pairs[:3]) + "."


def _pairs(evaluation: Evaluation) -> list[dict[str, str]]:
    confusion = np.array(evaluation.confusion)
    support = confusion.sum(axis=1)
    np.fill_diagonal(confusion, 0)
    order = np.argsort(-confusion, axis=None, kind="stable")[:MOST_PAIRS]
    cells = [np.unravel_index(index, confusion.shape) for index in order]
    return [
        {
            "true": evaluation.classes[row],
            "predicted": evaluation.classes[column],
            "count": units.count(int(confusion[row, column])),
            "share": units.percent(confusion[row, column] / support[row]),
        }
        for row, column in cells
        if confusion[row, column]
    ]


def _rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    return [
        {
            "name": score.name,
            "support": units.count(score.support),
            "precision": units.percent(score.precision),
            "recall": units.percent(score.recall) if score.support else units.MISSING,
            "f1": units.percent(score.f1) if score.support else units.MISSING,
            "bar": share_bar([score.f1]),
        }
        for score in evaluation.per_class
    ]


def _calibration(evaluation: Evaluation) -> dict[str, Any]:
    raw, fitted = evaluation.calibration, evaluation.calibrated
    mean = sum(item.count * item.confidence for item in raw.bins) / evaluation.n
    low, high = evaluation.interval
    how = "as sure as it is right" if low <= mean <= high else "too sure" if mean > high else "less sure than it could be"
    words = f"On average the network is {how}: mean confidence {units.percent(mean)}, right {units.percent(evaluation.top1, evaluation.n)}."
    bins = [vars(item) for item in raw.bins]
    label = f"Reliability diagram: expected calibration error {units.percent(raw.ece)}. {words}"
    return {
        "words": words,
        "ece": units.percent(raw.ece),
        "chance": units.percent(chance_error(raw)) if chance_error(raw) > raw.ece / 4 else None,
        "chart": reliability_chart(bins, label=label),
        # what fit_temperature returns where no temperature can be told
        "untold": fitted is not None and fitted.temperature == 1.0,
        "fitted": fitted
        and {
            "temperature": units.digits3(fitted.temperature),
            "ece": units.percent(fitted.ece),
            "log_loss": units.digits3(fitted.log_loss),
        },
        "log_loss": units.digits3(raw.log_loss),
    }
