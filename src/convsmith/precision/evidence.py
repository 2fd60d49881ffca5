"""How sure a drop is: how many images would decide it, and what a score that does not repeat itself is worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from convsmith.errors import UsageError
from convsmith.precision.plan import Plan
from convsmith.precision.scoring import Score, Scorer

MOST_IMAGES = 10_000_000


def drop_bound(lost: int, gained: int, n: int, confidence: float = 0.95) -> float:
    """Return an exact upper bound of the drop, in points: the share lost at most, less the share gained at least.

    Clopper and Pearson's bounds of two binomial shares, each at half of the risk, so that both hold at ``confidence`` (Bonferroni).
    """
    from scipy.stats import beta

    risk = (1 - confidence) / 2
    most = 1.0 if lost >= n else float(beta.ppf(1 - risk, lost + 1, n - lost))
    least = 0.0 if gained == 0 else float(beta.ppf(risk, gained, n - gained + 1))
    return 100 * (most - least)


def images_needed(lost: int, gained: int, n: int, max_drop: float, confidence: float = 0.95) -> int | None:
    """Return how many images would prove a drop of at most ``max_drop`` points if answers were lost and gained at the same rates.

    None when no number can: the rates themselves are at or above the limit. ``n`` or fewer mean that it is proved already.

    Raises: ``UsageError`` for counts that cannot be.
    """
    if n < 1 or lost < 0 or gained < 0 or lost + gained > n:
        raise UsageError(f"{lost} answers lost and {gained} gained of {n} images cannot be")
    if 100 * (lost - gained) / n >= max_drop:
        return None

    def proved(images: int) -> bool:
        return drop_bound(math.ceil(lost * images / n), math.floor(gained * images / n), images, confidence) <= max_drop

    high = 1
    while not proved(high):
        high *= 2
        if high > MOST_IMAGES:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if proved(middle) else (middle, high)
    return high


@dataclass(frozen=True)
class Spread:
    """Accuracies of repeated scores of one plan: the mean and a 95 % interval for it, in points (Student's t)."""

    mean: float
    low: float
    high: float
    times: int


def spread(values: Sequence[float]) -> Spread:
    """Return mean and interval of accuracies, as parts of one; a single one has no interval."""
    from scipy.stats import t

    x = 100 * np.asarray(values, float)
    if not x.size:
        raise UsageError("no scores to average")
    if x.size == 1:
        return Spread(float(x[0]), float(x[0]), float(x[0]), 1)
    half = float(t.ppf(0.975, x.size - 1) * x.std(ddof=1) / math.sqrt(x.size))
    return Spread(float(x.mean()), float(x.mean()) - half, float(x.mean()) + half, int(x.size))


class Repeated:
    """A scorer that asks a noisy one several times and answers with the mean; ``spreads`` keeps what it saw of each plan."""

    def __init__(self, score: Scorer, times: int) -> None:
        if times < 2:
            raise UsageError(f"a noisy score is repeated {times} times; at least 2 show its noise")
        self.score, self.times = score, times
        self.spreads: dict[str, Spread] = {}

    def __call__(self, plan: Plan | None) -> Score:
        scores = [self.score(plan) for _ in range(self.times)]
        accuracy = float(np.mean([score.accuracy for score in scores]))
        self.spreads["float32" if plan is None else plan.name] = spread([score.accuracy for score in scores])
        return Score(accuracy, scores[0].n)


def is_noisy(score: Scorer, first: Score) -> bool:
    """Tell whether float32 scored again gives another answer than ``first``."""
    again = score(None)
    if again.correct is not None and first.correct is not None:
        return not np.array_equal(again.correct, first.correct)
    return again.accuracy != first.accuracy
