"""Which image goes to which part: stratified, reproducible, identical images on one side, given parts kept.

The order inside a class comes from a hash of the pixels and the seed. So the parts depend neither on file names nor on the
order of the folder nor on a library's random numbers, and adding images moves few of the others.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convsmith.data.dataset import Problem
from convsmith.data.source import FREE, PARTS, Source
from convsmith.errors import DataError, UsageError

TRAIN, VAL, TEST = range(3)
LEFT_OUT = -2
MOST_VALIDATION = 5000
"""Enough to tell accuracies half a point apart; more would be missed in training."""


@dataclass(frozen=True, eq=False)
class Division:
    """``part``: index into ``PARTS`` of every image, ``LEFT_OUT`` (-2) for those that take no part, int8 ``(n,)``."""

    part: NDArray[np.int8]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]


def divide(source: Source, val: float | None, test: float, seed: int, trainable: bool = True) -> Division:
    """Assign every image of a source to a part. ``val=None`` is a fifth, but of many images about 5,000 (whole numbers in every class).

    A given test part is never made smaller: of images that stand in two parts, the copy nearer to training is left out.
    ``trainable=False`` carves nothing and asks neither for two classes nor for a training part.

    Raises: DataError for fewer than two classes or too few images in a class; UsageError for fractions that cannot be.
    """
    if val is None:
        val = min(0.2, MOST_VALIDATION / max(1, int(np.count_nonzero(source.given <= 0))))
    if not (0 <= val < 1 and 0 <= test < 1 and val + test < 1):
        raise UsageError(f"val is {val} and test is {test}; each must be at least 0 and their sum below 1")
    part, problems = _clean(source)
    notes: list[str] = []
    if not trainable:
        return Division(part, tuple(problems), ())
    if (source.given == FREE).all():
        wanted = {VAL: val, TEST: test}
    else:
        wanted, notes = _missing_parts(source, val, test)
    wanted = {target: fraction for target, fraction in wanted.items() if fraction > 0}
    if not (part != LEFT_OUT).any():
        raise DataError(f"{source.origin}: every image stands under two or more labels ({problems[0].name!r} first); correct the labels")
    _check_classes(source, part)
    _carve(source, part, wanted, seed)
    problems += _absent(source, part)
    return Division(part, tuple(problems), tuple(notes))


def _clean(source: Source) -> tuple[NDArray[np.int8], list[Problem]]:
    """Find identical images: conflicting labels leave, copies in a later part win over earlier ones, the rest is told."""
    part = np.where(source.given == FREE, TRAIN, source.given).astype(np.int8)
    order = np.argsort(source.digests, kind="stable")
    edges = np.flatnonzero(np.diff(source.digests[order], prepend=source.digests[order[:1]] ^ np.uint64(1)))
    counts = np.diff(edges, append=len(order))
    problems: list[Problem] = []
    for start, count in zip(edges[counts > 1], counts[counts > 1], strict=True):
        problems += _resolve(source, part, np.sort(order[start : start + count]))
    return part, problems


def _resolve(source: Source, part: NDArray[np.int8], rows: NDArray[np.int64]) -> list[Problem]:
    labels = sorted({source.classes[label] for label in source.labels[rows]})
    last = int(part[rows].max())
    problems = []
    if len(labels) > 1:
        kept = (source.given[rows] == TEST) if last == TEST else np.zeros(len(rows), bool)
        for row, keep in zip(rows, kept, strict=True):
            end = "; kept, because a given test part is not changed" if keep else ""
            reason = f"the same image stands under {len(labels)} labels ({', '.join(labels[:4])}){end}"
            problems.append(Problem(source.title(row), "conflict", reason, left_out=not keep))
        part[rows[~kept]] = LEFT_OUT
        return problems
    keeper = int(rows[part[rows] == last][0])
    first = source.title(keeper)
    for row in rows:
        if part[row] < last:
            reason = f"the same image stands in {PARTS[last]} as {first!r}; left out of {PARTS[part[row]]}"
            problems.append(Problem(source.title(row), "duplicate", reason))
            part[row] = LEFT_OUT
        elif row != keeper:
            problems.append(Problem(source.title(row), "duplicate", f"the same image as {first!r}; both stay in one part", left_out=False))
    return problems


def _missing_parts(source: Source, val: float, test: float) -> tuple[dict[int, float], list[str]]:
    """Return the parts to carve out of a given training part, and what was done in words."""
    given = {int(value) for value in np.unique(source.given)}
    if TRAIN not in given:
        raise DataError(f"{source.origin} has {' and '.join(PARTS[index] for index in sorted(given))} but no train part; add one")
    if given == {TRAIN}:
        return {VAL: val, TEST: test}, [f"only a train part is given: {val:.0%} of it became val and {test:.0%} test"]
    if VAL in given and TEST not in given:
        return {}, ["no test part is given: the figures called test are those of val, which also chose the best epoch"]
    if TEST in given and VAL not in given and val > 0:
        return {VAL: val}, [f"no val part is given: {val:.0%} of train became val"]
    return {}, []


def _check_classes(source: Source, part: NDArray[np.int8]) -> None:
    counts = np.bincount(source.labels[part == TRAIN], minlength=len(source.classes))
    present = [name for name, count in zip(source.classes, counts, strict=True) if count]
    if len(source.classes) < 2:
        what = f"one class ({source.classes[0]!r})" if source.classes else "no class"
        raise DataError(f"{source.origin} has {what}; a classifier needs at least two, each in its own folder or with its own label")
    if len(present) < len(source.classes):
        absent = [name for name in source.classes if name not in present]
        raise DataError(f"{source.origin}: no usable training image of {_listed(absent)}; add some or remove the class")


def _carve(source: Source, part: NDArray[np.int8], wanted: dict[int, float], seed: int) -> None:
    """Move groups of identical images from training to the wanted parts, class by class."""
    if not wanted:
        return
    poor: list[str] = []
    key = _mixed(source.digests, seed)
    for label, name in enumerate(source.classes):
        rows = np.flatnonzero((source.labels == label) & (part == TRAIN))
        groups = _groups(source.digests, key, rows)
        if len(groups) < len(wanted) + 1:
            poor.append(f"{name} ({len(groups)})")
            continue
        total = len(rows)
        for target, fraction in sorted(wanted.items(), reverse=True):
            later = sum(other < target for other in wanted) + 1
            taken = 0
            while len(groups) > later and (taken == 0 or taken + len(groups[0]) <= round(fraction * total)):
                part[groups[0]] = target
                taken += len(groups.pop(0))
    if poor:
        need = len(wanted) + 1
        names = " and ".join(["train", *(PARTS[target] for target in sorted(wanted))])
        raise DataError(
            f"{source.origin}: every class needs at least {need} different images, one each for {names}; too few in {_listed(poor)}. "
            f"Add images, remove the class, or give your own train/val/test folders"
        )


def _groups(digests: NDArray[np.uint64], key: NDArray[np.uint64], rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return groups of identical images in the seed's order; images with copies last, so that they go to training."""
    if not len(rows):
        return []
    rows = rows[np.argsort(key[rows], kind="stable")]
    groups = np.split(rows, np.flatnonzero(np.diff(digests[rows])) + 1)
    return sorted(groups, key=len)


def _mixed(digests: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """SplitMix64 finaliser over digest and seed (Steele, Lea, Flood 2014): a bijection of the digests for each seed."""
    with np.errstate(over="ignore"):
        z = digests ^ np.uint64((seed * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def _absent(source: Source, part: NDArray[np.int8]) -> list[Problem]:
    """Name the classes that a part lacks although others stand in it."""
    lacking: dict[int, list[str]] = defaultdict(list)
    for target in (VAL, TEST):
        if (part == target).any():
            counts = np.bincount(source.labels[part == target], minlength=len(source.classes))
            for label in np.flatnonzero(counts == 0):
                lacking[target].append(source.classes[label])
    return [
        Problem(name, "class", f"the class has no image in {PARTS[target]}; its accuracy cannot be measured there", left_out=False)
        for target, names in lacking.items()
        for name in names
    ]


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
