"""One network of a frontier: what was done to it, what it costs and how often it is right; and which of several are worth having."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Point:
    """A measured network. Shares right are 0..1, drops in points against the float32 network on the same images.

    ``predicted_share``: time of one image, from prices of layers, as a part of that of the whole network in codes; ``predicted_ms``: the
    same in milliseconds, once that was measured beside it; None without prices. ``accuracy``, ``drop``, their ends and ``n`` are of the
    images of the search; ``test`` holds the same of the test images, where there are others. ``ms`` and ``batch_ms`` are one image and
    ``batch`` images, medians; ``file_bytes`` of the native program; ``memory_bytes`` of weights and values at once; ``energy_uj`` an
    estimate of one image's arithmetic and memory at 45 nm. ``folder``: the run that can be exported, relative to the searched one.
    """

    name: str
    plan: str
    recipe: str
    algorithms: str
    edits: tuple[Mapping[str, Any], ...]
    accuracy: float
    low: float
    high: float
    drop: float
    drop_low: float
    drop_high: float
    n: int
    ms: float
    batch_ms: float
    batch: int
    file_bytes: int
    memory_bytes: int
    energy_uj: float
    macs: int
    seconds: float
    folder: str
    predicted_share: float | None = None
    predicted_ms: float | None = None
    test: Mapping[str, Any] | None = None

    @property
    def images_per_s(self) -> float:
        return 1e3 * max(1 / self.ms, self.batch / self.batch_ms)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"edits": [dict(edit) for edit in self.edits], "images_per_s": self.images_per_s}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Point:
        known = {key: value for key, value in values.items() if key != "images_per_s"}
        return cls(**{**known, "edits": tuple(known["edits"])})

    def timed(self, ms: float, batch_ms: float, codes_ms: float | None = None) -> Point:
        """Return the point with these times; ``codes_ms``: of the whole network in codes, measured in turn with them."""
        predicted = None if codes_ms is None or self.predicted_share is None else codes_ms * self.predicted_share
        return replace(self, ms=ms, batch_ms=batch_ms, predicted_ms=predicted)


@dataclass(frozen=True)
class Limits:
    """What a network must keep; None is no limit. ``max_drop`` in points, ``max_mb`` of 10^6 bytes."""

    max_drop: float
    max_ms: float | None = None
    max_mb: float | None = None

    def hold(self, point: Point) -> bool:
        return (
            point.drop <= self.max_drop + 1e-9
            and (self.max_ms is None or point.ms <= self.max_ms)
            and (self.max_mb is None or point.file_bytes <= 1e6 * self.max_mb)
        )


def frontier(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other beats: as accurate, as quick for one image and for many, as small, and better in one of these."""

    def values(point: Point) -> tuple[float, ...]:
        return -point.accuracy, point.ms, point.batch_ms, point.file_bytes

    def beaten(point: Point) -> bool:
        mine = values(point)
        return any(all(a <= b for a, b in zip(values(o), mine, strict=True)) and values(o) != mine for o in points)

    return sorted((point for point in points if not beaten(point)), key=lambda point: point.ms)


def best(points: Sequence[Point], limits: Limits) -> Point | None:
    """Return the quickest point within the limits, of equally quick ones the smallest; None where none is."""
    return min((point for point in points if limits.hold(point)), key=lambda point: (point.ms, point.file_bytes), default=None)
