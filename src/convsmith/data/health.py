"""What is good and bad about a source of images, counted: for ``convsmith check`` and the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convsmith.data.dataset import Problem, Split
from convsmith.data.decode import MAX_PIXELS
from convsmith.data.exclusion import without
from convsmith.data.findings import LEAST_SIDE, Finding, find
from convsmith.data.measures import measure
from convsmith.data.opening import read
from convsmith.data.scan import Progress, summary
from convsmith.data.source import PARTS, Source, without_empty_classes
from convsmith.data.split import TEST, Division, divide
from convsmith.errors import DataError

LIMIT = 20_000
NEAR = ("leak", "near_conflict", "near_duplicate")


@dataclass(frozen=True)
class Health:
    """The state of a source as ``data.open`` would see it.

    ``counts``: images of each class in each part. ``sizes``: least, median and greatest ``(height, width)``.
    ``duplicates``: groups of pixel-identical images; ``near``: pairs that look alike, None where they are not looked for (images below
    32 pixels, more images than the limit). ``findings``: what speaks against single images, None where it was not looked for.
    ``imbalance``: images of the largest class over those of the smallest. ``errors``: why ``data.open`` refuses, empty when it does not.
    """

    name: str
    source: str
    classes: tuple[str, ...]
    channels: int
    images: int
    counts: dict[str, list[int]]
    sizes: dict[str, tuple[int, int]]
    uniform: bool
    modes: dict[str, int]
    formats: dict[str, int]
    duplicates: tuple[tuple[str, ...], ...]
    near: tuple[tuple[str, str], ...] | None
    near_count: int
    findings: tuple[Finding, ...] | None
    given_test: bool
    imbalance: float
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    errors: tuple[str, ...]
    pictures: Split | None = field(repr=False, compare=False, default=None)

    @property
    def ok(self) -> bool:
        return not self.errors

    @property
    def left_out(self) -> int:
        """Files and images that take no part; a folder or class is not counted."""
        return sum(problem.left_out and problem.kind not in ("class", "loop") for problem in self.problems)

    @property
    def kinds(self) -> dict[str, int]:
        """How many problems there are of each kind, most frequent first."""
        return dict(Counter(problem.kind for problem in self.problems).most_common())

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "pictures"}
        plain["findings"] = None if self.findings is None else [vars(finding) for finding in self.findings]
        plain["problems"] = [vars(problem) for problem in self.problems]
        plain["sizes"] = {name: list(size) for name, size in self.sizes.items()}
        for name in ("classes", "notes", "errors"):
            plain[name] = list(plain[name])
        for name in ("duplicates", "near"):
            plain[name] = None if plain[name] is None else [list(group) for group in plain[name]]
        return {**plain, "ok": self.ok, "left_out": self.left_out, "kinds": self.kinds}


def check(
    path: str | Path,
    *,
    val: float | None = None,
    test: float = 0.2,
    seed: int = 0,
    progress: Progress | None = None,
    max_pixels: int = MAX_PIXELS,
    workers: int | None = None,
    exclude: str | Path | None = None,
    limit: int = LIMIT,
    features: Mapping[str, NDArray[np.float32]] | None = None,
) -> Health:
    """Look at every image and count what is there, what is wrong and what ``data.open`` would do with the same arguments.

    Up to ``limit`` images are also compared with each other and judged one by one; 0 leaves that out. ``features``: of each image by its
    name, as a trained network sees it, to judge the labels by; without them shapes and colours do.

    Raises: DataError only when the source cannot be listed at all.
    """
    source = without_empty_classes(without(read(path, progress=progress, max_pixels=max_pixels, workers=workers), exclude))
    errors: list[str] = []
    division = Division(np.maximum(source.given, 0), (), ())
    if not len(source):
        errors.append(summary(source.origin, source.problems))
    else:
        try:
            division = divide(source, val, test, seed)
        except DataError as error:
            errors.append(str(error))
    findings = None
    if 0 < len(source) <= limit:
        seen = None
        if features is not None and all(source.title(row) in features for row in range(len(source))):
            seen = np.stack([features[source.title(row)] for row in range(len(source))])
        findings = find(source, division.part, measure(source, workers, progress), seen)
    near = _near(source, findings)
    return Health(
        name=source.name,
        source=source.origin,
        classes=source.classes,
        channels=source.channels,
        images=len(source),
        counts=_counts(source, division),
        sizes=_sizes(source),
        uniform=bool(len(source)) and bool((source.sizes() == source.sizes()[0]).all()),
        modes=dict(Counter(source.modes).most_common()),
        formats=dict(Counter(source.formats).most_common()),
        duplicates=_duplicates(source),
        near=near,
        near_count=len(near or ()),
        findings=findings,
        given_test=bool((source.given == TEST).any()),
        imbalance=_imbalance(source),
        problems=source.problems + division.problems,
        notes=source.notes + division.notes,
        errors=tuple(errors),
        pictures=source.take(np.arange(len(source))) if len(source) else None,
    )


def _counts(source: Source, division: Division) -> dict[str, list[int]]:
    return {
        part: np.bincount(source.labels[division.part == number], minlength=len(source.classes)).tolist()
        for number, part in enumerate(PARTS)
        if (division.part == number).any()
    }


def _sizes(source: Source) -> dict[str, tuple[int, int]]:
    if not len(source):
        return {}
    extents = source.sizes()
    rows = {"least": extents.min(axis=0), "median": np.median(extents, axis=0), "greatest": extents.max(axis=0)}
    return {name: (int(row[0]), int(row[1])) for name, row in rows.items()}


def _duplicates(source: Source) -> tuple[tuple[str, ...], ...]:
    order = np.argsort(source.digests, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(source.digests[order])) + 1)
    return tuple(sorted(tuple(source.title(int(row)) for row in group) for group in groups if len(group) > 1))


def _imbalance(source: Source) -> float:
    counts = np.bincount(source.labels, minlength=len(source.classes))
    return round(float(counts.max() / counts.min()), 2) if len(counts) and counts.min() else 0.0


def _near(source: Source, findings: tuple[Finding, ...] | None) -> tuple[tuple[str, str], ...] | None:
    """Return the pairs that look alike, each once, by name."""
    if findings is None or np.median(source.sizes(), axis=0).min() < LEAST_SIDE:
        return None
    return tuple(sorted({tuple(sorted((item.name, item.other))) for item in findings if item.kind in NEAR}))  # type: ignore[misc]
