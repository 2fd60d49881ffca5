"""Rows as tables: the paper's figure beside ours, what became of each claim, and the difference from float32 image by image."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from convsmith.training.reproductions.paper import REFERENCE, Claim, Experiment, Size
from convsmith.training.reproductions.running import Row


@dataclass(frozen=True)
class Line:
    """One arm over its seeds; errors in percent. ``difference``: the mean over common seeds of error less float32's, with the half width
    of its 95 % interval over the test images, None for float32 itself and where there is none to compare with.
    """

    arm: str
    published: float | None
    where: str
    errors: tuple[float, ...]
    diverged: int
    difference: float | None
    half_width: float | None

    @property
    def mean(self) -> float:
        return statistics.mean(self.errors)

    @property
    def spread(self) -> float | None:
        """The standard deviation over seeds, None for one seed."""
        return statistics.stdev(self.errors) if len(self.errors) > 1 else None


@dataclass(frozen=True)
class Verdict:
    """What became of a claim: ``holds`` None where a row is missing. ``found``: the numbers that decided."""

    text: str
    holds: bool | None
    found: str


def lines(experiment: Experiment, size: Size, rows: Sequence[Row]) -> list[Line]:
    """Return a line for each arm that has rows, in the experiment's order."""
    found = []
    reference = _of(rows, experiment.key, REFERENCE)
    for arm in experiment.setup(size).arms:
        mine = _of(rows, experiment.key, arm.name)
        if not mine:
            continue
        difference = None if arm.name == REFERENCE else paired(mine, reference)
        found.append(
            Line(
                arm.name,
                arm.published,
                arm.where,
                tuple(mine[seed].error for seed in sorted(mine)),
                sum(row.diverged for row in mine.values()),
                *(difference or (None, None)),
            )
        )
    return found


def paired(mine: dict[int, Row], other: dict[int, Row]) -> tuple[float, float] | None:
    """Return the mean difference of error over the seeds both have, in points, and the half width of its 95 % interval.

    Each test image gives the mean over seeds of (wrong here - wrong there); the interval is that of their mean over images, so it speaks of
    other test images and these seeds. None without a common seed.
    """
    seeds = sorted(mine.keys() & other.keys())
    if not seeds:
        return None
    n = mine[seeds[0]].tested
    totals: dict[int, float] = {}
    for seed in seeds:
        for image in mine[seed].wrong:
            totals[image] = totals.get(image, 0.0) + 1 / len(seeds)
        for image in other[seed].wrong:
            totals[image] = totals.get(image, 0.0) - 1 / len(seeds)
    mean = math.fsum(totals.values()) / n
    square = math.fsum(value * value for value in totals.values()) / n
    return 100 * mean, 100 * 1.96 * math.sqrt(max(0.0, square - mean * mean) / n)


def verdicts(experiment: Experiment, size: Size, rows: Sequence[Row]) -> list[Verdict]:
    """Return what became of each claim of the experiment, by the seeds that all arms it speaks of have."""
    wanted = {arm.name for arm in experiment.setup(size).arms}
    found = []
    for claim in experiment.claims:
        errors = {arm: _of(rows, experiment.key, arm) for arm in arms_of(claim) if arm in wanted}
        seeds = set.intersection(*(set(mine) for mine in errors.values())) if errors else set()
        means = {arm: statistics.mean(mine[seed].error for seed in sorted(seeds)) for arm, mine in errors.items()} if seeds else {}
        found.append(verdict(claim, means))
    return found


def arms_of(claim: Claim) -> tuple[str, ...]:
    """Return the arms that a claim speaks of."""
    return {"order": claim.arms, "at_most": (claim.arm,)}.get(claim.kind, (claim.arm, claim.against))


def verdict(claim: Claim, means: dict[str, float]) -> Verdict:
    """Judge one claim by the mean errors of the arms, in percent."""
    if any(arm not in means for arm in arms_of(claim)):
        return Verdict(claim.text, None, "not run")
    if claim.kind == "order":
        values = [means[arm] for arm in claim.arms]
        holds = all(later >= earlier - claim.points for earlier, later in itertools.pairwise(values))
        return Verdict(claim.text, holds, ", ".join(f"{arm} {means[arm]:.2f} %" for arm in claim.arms))
    mean = means[claim.arm]
    if claim.kind == "at_most":
        return Verdict(claim.text, mean <= claim.points, f"{mean:.2f} %")
    more = mean - means[claim.against]
    holds = more <= claim.points + 1e-9 if claim.kind == "within" else more >= claim.points
    return Verdict(claim.text, holds, f"{mean:.2f} % against {means[claim.against]:.2f} %: {more:+.2f} points")


def cells(line: Line) -> list[str]:
    """Return a line as texts: arm, the paper's error, ours, its spread, seeds, difference from float32."""
    spread = "" if line.spread is None else f"{line.spread:.2f}"
    difference = "" if line.difference is None else f"{line.difference:+.2f} ± {line.half_width:.2f}"
    ours = f"{line.mean:.2f}" + (f" ({line.diverged} diverged)" if line.diverged else "")
    published = "-" if line.published is None else f"{line.published:.2f}"
    return [line.arm, published, line.where or "-", ours, spread or "-", str(len(line.errors)), difference or "-"]


HEADERS = ("arm", "paper %", "where", "ours %", "sd", "seeds", "points from float32")


def _of(rows: Sequence[Row], experiment: str, arm: str) -> dict[int, Row]:
    return {row.seed: row for row in rows if row.experiment == experiment and row.arm == arm}
