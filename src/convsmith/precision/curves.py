"""Accuracy against bits: every uniform plan of the chosen families evaluated, as rows and as text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from convsmith.graph.network import Graph
from convsmith.precision.calibration import Ranges
from convsmith.precision.families import TENSORS, Candidate, Tensors, candidates
from convsmith.precision.plan import Plan
from convsmith.precision.scoring import Point, Score, Scorer, compare

COLLAPSED: Final = 40.0
"""A curve ends after two points in a row that lose so many points: fewer bits are worse still and cost the same time."""

Progress = Callable[[int, int, str], Any]
"""Called before each evaluation with evaluations done, their total (at most), and what comes next."""


class Evaluations:
    """Evaluates each candidate at most once, the float32 baseline first; points of an earlier run are taken over.

    ``on_point`` is called with every new point as soon as it is known, so that a run can keep it. ``spent`` counts passes over the images:
    with ``max_drop`` a plan is given up as soon as it cannot hold it, where the scorer can (``GraphScorer.until``), at a part of one.
    """

    def __init__(
        self,
        score: Scorer,
        total: int,
        progress: Progress | None = None,
        on_point: Callable[[Point], Any] | None = None,
        done: Iterable[Point] = (),
        max_drop: float | None = None,
    ) -> None:
        self._score = score
        self._total = total
        self._max_drop = max_drop
        self._progress = progress
        self._on_point = on_point
        self._known = {point.key: point for point in done}
        self._baseline: Score | None = None
        self.points: list[Point] = []
        self.spent = 0.0

    def baseline(self) -> Score:
        """Return the score of float32, asked for once."""
        if self._baseline is None:
            self._baseline = self._score(None)
        return self._baseline

    def __call__(self, candidate: Candidate) -> Point:
        for point in self.points:
            if point.key == candidate.key:
                return point
        known = self._known.get(candidate.key)
        point = known if known is not None and known.plan == candidate.plan.to_dict() else self._evaluate(candidate)
        self.points.append(point)
        return point

    def _evaluate(self, candidate: Candidate) -> Point:
        if self._progress:
            self._progress(len(self.points), self._total, candidate.format)
        baseline = self.baseline()
        until = getattr(self._score, "until", None) if self._max_drop is not None else None
        whole = baseline.n
        if until is None:
            score = self._score(candidate.plan)
        else:
            score, baseline = until(candidate.plan, baseline, self._max_drop)
        self.spent += score.n / whole
        point = Point(
            candidate.family,
            candidate.format,
            candidate.tensors,
            candidate.bits,
            score.accuracy,
            plan=candidate.plan.to_dict(),
            cost=candidate.cost,
            **compare(baseline, score),
        )
        if self._on_point:
            self._on_point(point)
        return point


def sweep(
    graph: Graph,
    score: Scorer,
    *,
    ranges: Ranges | None = None,
    families: Sequence[str] | None = None,
    tensors: Sequence[Tensors] = TENSORS,
    stop_drop: float = COLLAPSED,
    progress: Progress | None = None,
    on_point: Callable[[Point], Any] | None = None,
    done: Iterable[Point] = (),
) -> list[Point]:
    """Evaluate the uniform plans of each family from many bits to few, for weights, activations and both.

    A curve ends after two points in a row that lose more than ``stop_drop`` points of accuracy.
    ``done`` and ``on_point`` let an interrupted sweep go on.
    """
    found = candidates(graph, ranges, families, tensors)
    evaluate = Evaluations(score, len(found), progress, on_point, done)
    for curve in dict.fromkeys((c.family, c.tensors) for c in found):
        lost = 0
        for candidate in reversed([c for c in found if (c.family, c.tensors) == curve]):
            point = evaluate(candidate)
            lost = lost + 1 if point.drop > stop_drop else 0
            if lost == 2:
                break
    return evaluate.points


def points_table(points: Sequence[Point]) -> str:
    """Return points as aligned text, a curve after the other, many bits first."""
    head = f"{'family':<10} {'tensors':<11}{'bits':>5}  {'accuracy':>8}  {'drop in points (95 %)':<26} format"
    lines = [head]
    for point in points:
        interval = f"{point.drop:+6.2f} ({point.drop_low:+.2f} to {point.drop_high:+.2f})"
        lines.append(f"{point.family:<10} {point.tensors:<11}{point.bits:>5g}  {point.accuracy:>8.2%}  {interval:<26} {point.format}")
    return "\n".join(lines)


def series(points: Sequence[Point]) -> list[dict[str, Any]]:
    """Return the curves for a plot: ``family, tensors`` and parallel lists ``bits, accuracy, drop, low, high, format``, few bits first."""
    curves = []
    for family, tensors in dict.fromkeys((point.family, point.tensors) for point in points):
        mine = sorted((p for p in points if (p.family, p.tensors) == (family, tensors)), key=lambda p: p.bits)
        curves.append(
            {
                "family": family,
                "tensors": tensors,
                "bits": [p.bits for p in mine],
                "accuracy": [p.accuracy for p in mine],
                "drop": [p.drop for p in mine],
                "low": [p.drop_low for p in mine],
                "high": [p.drop_high for p in mine],
                "format": [p.format for p in mine],
            }
        )
    return curves


def plan_of(point: Point) -> Plan:
    """Return the plan that was evaluated."""
    return Plan.from_dict(point.plan)
