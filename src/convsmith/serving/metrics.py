"""Counts and times of a server, as Prometheus reads them (text format 0.0.4)."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)


@dataclass
class Histogram:
    """Observations counted by upper bounds."""

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def lines(self, name: str) -> list[str]:
        found, running = [], 0
        for bound, count in zip((*(f"{b:g}" for b in self.bounds), "+Inf"), self.counts, strict=True):
            running += count
            found.append(f'{name}_bucket{{le="{bound}"}} {running}')
        return [*found, f"{name}_sum {self.total:.6f}", f"{name}_count {running}"]


@dataclass
class Metrics:
    """Everything that is counted. ``answers`` by status; ``events``: restarts, retries, timeouts, refused connections."""

    answers: Counter[int] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    images: int = 0
    seconds: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    batches: Histogram = field(default_factory=lambda: Histogram(SIZES))

    def text(self, gauges: Mapping[str, float]) -> str:
        """Return the page; ``gauges``: what is so just now."""
        lines = ["# HELP convsmith_requests_total Requests answered, by status.", "# TYPE convsmith_requests_total counter"]
        lines += [f'convsmith_requests_total{{code="{code}"}} {count}' for code, count in sorted(self.answers.items())]
        lines += ["# HELP convsmith_images_total Images classified.", "# TYPE convsmith_images_total counter"]
        lines += [f"convsmith_images_total {self.images}"]
        lines += ["# HELP convsmith_events_total What went wrong and was survived, by kind.", "# TYPE convsmith_events_total counter"]
        lines += [f'convsmith_events_total{{kind="{kind}"}} {count}' for kind, count in sorted(self.events.items())]
        for name, about, found in (
            ("convsmith_request_seconds", "From the last byte of a request to its answer.", self.seconds),
            ("convsmith_batch_requests", "Requests that a worker took at once.", self.batches),
        ):
            lines += [f"# HELP {name} {about}", f"# TYPE {name} histogram", *found.lines(name)]
        for name, value in gauges.items():
            lines += [f"# TYPE convsmith_{name} gauge", f"convsmith_{name} {value:g}"]
        return "\n".join(lines) + "\n"
