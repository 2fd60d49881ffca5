"""Choosing the quickest of several candidates from noisy measurements that somebody else makes.

The machine is never quiet: another program can take the processor away for any one sample. So candidates are measured in turn, a
round at a time, each is judged by its median, and rounds go on until the medians' confidence intervals part or the time is up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from convsmith.errors import UsageError

Candidate = TypeVar("Candidate")

FEWEST_ROUNDS: Final = 5
MOST_ROUNDS: Final = 41
MARGIN: Final = 0.03
"""How much slower than the direct candidate a choice may be, at the most."""


@dataclass(frozen=True)
class Interval:
    """A median and an interval that holds the true one with about 95 % probability, whatever the distribution."""

    low: float
    median: float
    high: float


@dataclass(frozen=True)
class Decision(Generic[Candidate]):
    """The chosen candidate, what was measured of all, and whether the intervals parted before the time was up."""

    chosen: Candidate
    intervals: dict[Candidate, Interval]
    rounds: int
    clear: bool


def choose(
    candidates: Sequence[Candidate],
    measure: Callable[[Candidate], float],
    *,
    direct: Candidate,
    limit_s: float | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Decision[Candidate]:
    """Return the candidate with the least median of ``measure``, seconds of one run.

    Each round measures every candidate that may still win, in an order that turns by one. A candidate whose interval lies wholly
    above the best one's leaves; ``direct`` stays to the end, since nothing more than 3 % slower than it is ever chosen: where the
    intervals cannot tell, the smaller median wins, and ``direct`` itself is the choice when the time allows no full round.

    Raises: ``UsageError`` unless ``direct`` is one of the candidates.
    """
    if direct not in candidates:
        raise UsageError(f"the direct candidate {direct!r} is not among {list(candidates)!r}")
    start, samples = clock(), {candidate: list[float]() for candidate in candidates}
    running, rounds, clear = list(candidates), 0, len(candidates) == 1
    while not clear and rounds < MOST_ROUNDS and (limit_s is None or clock() - start < limit_s):
        for candidate in running[rounds % len(running) :] + running[: rounds % len(running)]:
            samples[candidate].append(measure(candidate))
        rounds += 1
        if rounds >= FEWEST_ROUNDS:
            running = remaining(samples, running, direct)
            clear = settled(samples, running, direct)
    measured = {candidate: interval(values) for candidate, values in samples.items() if values}
    return Decision(best(measured, direct), measured, rounds, clear)


def interval(values: Sequence[float]) -> Interval:
    """Return the median with its distribution-free confidence interval, the order statistics ``n / 2 +- 0.98 sqrt(n)``.

    References: Conover, Practical Nonparametric Statistics, 3rd ed., section 3.2.
    """
    ordered, n = sorted(values), len(values)
    reach = 0.98 * n**0.5
    low, high = int(max(0, (n - 1) / 2 - reach)), int(min(n - 1, (n - 1) / 2 + reach + 0.999))
    median = ordered[n // 2] if n % 2 else (ordered[n // 2 - 1] + ordered[n // 2]) / 2
    return Interval(ordered[low], median, ordered[high])


def remaining(samples: dict[Candidate, list[float]], running: Sequence[Candidate], direct: Candidate) -> list[Candidate]:
    """Return the candidates that may still be the quickest, and ``direct``."""
    intervals = {candidate: interval(samples[candidate]) for candidate in running}
    least = min(found.high for found in intervals.values())
    return [candidate for candidate in running if candidate == direct or intervals[candidate].low <= least]


def settled(samples: dict[Candidate, list[float]], running: Sequence[Candidate], direct: Candidate) -> bool:
    """Tell whether the best is known: no other interval overlaps it, or those that do differ by too little to matter."""
    intervals = {candidate: interval(samples[candidate]) for candidate in running}
    first = min(running, key=lambda candidate: intervals[candidate].median)
    rivals = [found for candidate, found in intervals.items() if candidate != first]
    apart = all(found.low > intervals[first].high for found in rivals)
    narrow = all(found.high - found.low < MARGIN / 2 * found.median for found in intervals.values())
    return apart or narrow


def best(measured: dict[Candidate, Interval], direct: Candidate) -> Candidate:
    """Return the candidate of the least median, ``direct`` where nothing was measured."""
    return min(measured, key=lambda candidate: measured[candidate].median) if measured else direct
