"""Below which confidence a classifier had better say that it is not sure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from convsmith.analysis.calibration import check_logits, log_probabilities
from convsmith.errors import UsageError


@dataclass(frozen=True)
class Abstention:
    """``threshold``: the least confidence with which a class is named. ``answered``: share of images that have it; ``right`` of those."""

    threshold: float
    answered: float
    right: float

    def to_dict(self) -> dict[str, Any]:
        return vars(self).copy()


def choose_threshold(logits: ArrayLike, labels: ArrayLike, trust: float, *, temperature: float = 1.0) -> Abstention:
    """Return the threshold that answers most images while at least ``trust`` of the answers are right; choose it on validation logits.

    0 when all answers together are that good. Where no threshold is, that of the best answers. It lies midway between two confidences
    that were seen, so that another runtime's rounding does not move an image across it.

    Shapes: logits ``(n, classes)``, labels ``(n,)``.
    References: C. K. Chow, On optimum recognition error and reject tradeoff, 1970; Y. Geifman, R. El-Yaniv, 2017, arXiv:1705.08500.
    Raises: UsageError for a trust outside 0 to 1.
    """
    if not 0 <= trust <= 1:
        raise UsageError(f"trust is {trust}; it is a share of answers, from 0 to 1")
    scores, truth = check_logits(logits, labels)
    confidence = np.exp(log_probabilities(scores, temperature).max(axis=1))
    order = np.argsort(-confidence, kind="stable")
    ranked, hits = confidence[order], (scores.argmax(axis=1) == truth)[order]
    right = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    ends = np.flatnonzero(np.append(ranked[1:] < ranked[:-1], True))  # equal confidences are answered together or not at all
    good = ends[right[ends] >= trust]
    last = int(good[-1]) if len(good) else int(ends[np.flatnonzero(right[ends] == right[ends].max())[-1]])
    threshold = 0.0 if last + 1 == len(ranked) else float((ranked[last] + ranked[last + 1]) / 2)
    return Abstention(threshold, (last + 1) / len(ranked), float(right[last]))
