"""What a plan costs in accuracy on given data, with an interval for the paired difference."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from convsmith.errors import DataError, UsageError
from convsmith.graph.network import Graph
from convsmith.precision.plan import Plan

if TYPE_CHECKING:
    from convsmith.precision.calibration import Ranges

Z95: Final = 1.959963984540054
SHORT: Final = 32
"""Images between two looks at whether a plan can still hold."""


@dataclass(frozen=True, eq=False)
class Score:
    """How many of ``n`` images were right; ``correct`` says which, where known, and makes intervals paired and so narrower."""

    accuracy: float
    n: int
    correct: NDArray[np.bool_] | None = None

    @classmethod
    def of(cls, correct: NDArray[np.bool_]) -> Score:
        """Return the score of a vector that says which images were right; ``DataError`` when it is empty."""
        correct = np.asarray(correct, bool)
        if correct.ndim != 1 or not correct.size:
            raise DataError("a score needs at least one image")
        return cls(float(correct.mean()), correct.size, correct)


Scorer = Callable[[Plan | None], Score]
"""Scores a plan; None is the network in float32."""


@dataclass(frozen=True)
class Point:
    """One evaluated plan. ``drop`` and its 95 % interval are in points (hundredths of the images); negative is better than float32.

    ``tensors``: weight, activation or both. ``lost`` and ``gained``: images that only float32, or only the plan, had right (None when
    unknown). ``bits``: width of one value, the mean where layers differ. ``cost``: what a search by layers counted for it.
    """

    family: str
    format: str
    tensors: str
    bits: float
    accuracy: float
    drop: float
    drop_low: float
    drop_high: float
    n: int
    lost: int | None
    gained: int | None
    plan: Mapping[str, Any]
    cost: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Point:
        return cls(**values)

    @property
    def key(self) -> tuple[str, str, str]:
        return self.family, self.format, self.tensors


def compare(baseline: Score, score: Score) -> dict[str, Any]:
    """Return ``drop, drop_low, drop_high, lost, gained, n`` of a score against float32 on the same images.

    The interval is the adjusted Wald interval at 95 %: paired where both scores say which images were right, else independent. It covers
    the choice of images, not of training.

    References: Agresti and Min 2005, Statistics in Medicine 24, 729 (paired); Agresti and Caffo 2000 (independent).
    """
    if baseline.n != score.n:
        raise UsageError(f"scores of {baseline.n} and {score.n} images cannot be compared; score the same images")
    n = baseline.n
    if baseline.correct is None or score.correct is None:
        p, q = ((s.accuracy * n + 1) / (n + 2) for s in (baseline, score))
        centre, error = p - q, math.sqrt((p * (1 - p) + q * (1 - q)) / (n + 2))
        lost = gained = None
        drop = baseline.accuracy - score.accuracy
    else:
        lost = int((baseline.correct & ~score.correct).sum())
        gained = int((score.correct & ~baseline.correct).sum())
        drop = (lost - gained) / n
        b, c, m = lost + 0.5, gained + 0.5, n + 2
        centre, error = (b - c) / m, math.sqrt(b + c - (b - c) ** 2 / m) / m
    low, high = max(-1.0, centre - Z95 * error), min(1.0, centre + Z95 * error)
    return {"drop": 100 * drop, "drop_low": 100 * low, "drop_high": 100 * high, "lost": lost, "gained": gained, "n": n}


class GraphScorer:
    """Scores plans of one graph on labelled images by emulation. ``calibration`` are the images its ``ranges`` are from."""

    def __init__(self, graph: Graph, x: Any, labels: NDArray[np.integer[Any]], ranges: Ranges, calibration: Any, batch: int) -> None:
        self.graph, self.ranges, self.calibration = graph, ranges, calibration
        self._x, self._labels, self._batch = x, labels, batch

    def __call__(self, plan: Plan | None) -> Score:
        from convsmith.precision.emulation import Emulated

        module = Emulated(self.graph, plan or Plan(), self.ranges)
        parts = range(0, len(self._x), self._batch)
        answers = np.concatenate([module(self._x[start : start + self._batch]).argmax(1).numpy() for start in parts])
        return Score.of(answers == self._labels)

    def until(self, plan: Plan, baseline: Score, max_drop: float) -> tuple[Score, Score]:
        """Score a plan until it cannot hold ``max_drop`` points any more, and return its score and float32's on the images looked at.

        It cannot once it has lost more answers than are allowed even if it were right about every image left that float32 has wrong:
        so this is what scoring all images would decide. They are looked at in an order that is drawn once.
        """
        from convsmith.precision.emulation import Emulated

        if baseline.correct is None:
            return self(plan), baseline
        n, module = len(self._x), Emulated(self.graph, plan, self.ranges)
        order, allowed = np.random.default_rng(0).permutation(n), max_drop / 100 * n + 1e-6
        correct = np.zeros(n, bool)
        for start in range(0, n, SHORT):
            rows, seen, left = order[start : start + SHORT], order[: start + SHORT], order[start + SHORT :]
            correct[rows] = module(self._x[rows]).argmax(1).numpy() == self._labels[rows]
            net = int(baseline.correct[seen].sum()) - int(correct[seen].sum())
            if len(left) and net - int((~baseline.correct[left]).sum()) > allowed:
                return Score.of(correct[seen]), Score.of(baseline.correct[seen])
        return Score.of(correct), baseline


def scorer(graph: Graph, x_nchw: Any, labels: NDArray[np.integer[Any]], *, calibration: Any = None, batch: int = 128) -> GraphScorer:
    """Return a function that scores a plan on labelled images by emulation; batch norm is folded once, ranges are found once.

    ``calibration``: images for the ranges, better not those of the score; without them the first 256 of ``x_nchw`` serve.

    Shapes: ``x_nchw`` float32 ``(n, c, h, w)``, normalised as the network reads it; ``labels`` ``(n,)``.
    """
    import torch

    from convsmith.precision.calibration import Ranges, calibrate
    from convsmith.redesign import fold_batch_norm

    x = torch.as_tensor(x_nchw)
    labels = np.asarray(labels)
    if len(x) != len(labels) or not len(x):
        raise DataError(f"{len(x)} images and {len(labels)} labels; a score needs as many of each, and at least one")
    folded = fold_batch_norm(graph)
    given = isinstance(calibration, Ranges)
    source = x[:256] if calibration is None or given else torch.as_tensor(calibration)
    ranges = calibration if given else calibrate(folded, source)
    return GraphScorer(folded, x, labels, ranges, source, batch)
