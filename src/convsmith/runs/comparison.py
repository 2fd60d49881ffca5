"""Two runs on the images both were tested on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convsmith import analysis
from convsmith.errors import DataError, UsageError
from convsmith.runs import reader


@dataclass(frozen=True)
class Comparison:
    """Two runs over the ``paired.n`` images both were tested on; ``images_a`` and ``images_b`` are the whole test sets.

    ``accuracy_a``, ``accuracy_b``: shares of the shared images. ``differences``: the settings that differ, ``{key: (a, b)}``.
    """

    a: str
    b: str
    images_a: int
    images_b: int
    accuracy_a: float
    accuracy_b: float
    paired: analysis.Paired
    differences: Mapping[str, tuple[Any, Any]]


def compare(a: str | Path, b: str | Path) -> Comparison:
    """Compare two run folders image by image, matched by image name; `differences` are their settings that differ.

    Raises: UsageError when a run has no predictions; DataError when they share no image, or label the shared ones differently.
    """
    run_a, run_b = reader.open_run(a), reader.open_run(b)
    correct_a, correct_b = _paired(run_a, run_b)
    return Comparison(
        run_a.name,
        run_b.name,
        len(run_a.predictions().labels),
        len(run_b.predictions().labels),
        float(correct_a.mean()),
        float(correct_b.mean()),
        analysis.mcnemar(correct_a, correct_b, name_a=run_a.name, name_b=run_b.name),
        differences(run_a.config, run_b.config),
    )


def _paired(run_a: reader.Run, run_b: reader.Run) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    a, b = run_a.predictions(), run_b.predictions()
    place_b = {name: index for index, name in enumerate(b.names)}
    pairs = [(index, place_b[name]) for index, name in enumerate(a.names) if name in place_b]
    if not pairs:
        raise DataError(
            f"{run_a.name} and {run_b.name} were tested on different images ({a.names[0]!r} ..., {b.names[0]!r} ...), so a paired test "
            "is not possible. Run `convsmith eval` on both with the same data."
            if a.names and b.names
            else f"{run_a.name} and {run_b.name} share no test image"
        )
    rows_a, rows_b = np.array(pairs).T
    labels_a, labels_b = _label_names(run_a, a.labels[rows_a]), _label_names(run_b, b.labels[rows_b])
    if labels_a != labels_b:
        count = sum(x != y for x, y in zip(labels_a, labels_b, strict=True))
        raise DataError(f"{count} of {len(pairs)} shared test images have another label in {run_b.name} than in {run_a.name}")
    return a.correct[rows_a], b.correct[rows_b]


def _label_names(run: reader.Run, labels: NDArray[np.int64]) -> list[str]:
    try:
        classes = run.read_json("preprocess.json")["classes"]
    except (UsageError, KeyError):
        return [str(label) for label in labels]
    return [str(classes[label]) for label in labels]


def differences(a: dict[str, Any], b: dict[str, Any], prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Return the settings that differ, nested ones by their whole name: ``{key: (a, b)}``."""
    found: dict[str, tuple[Any, Any]] = {}
    for key in sorted(a.keys() | b.keys()):
        left, right = a.get(key), b.get(key)
        if isinstance(left, dict) and isinstance(right, dict):
            found |= differences(left, right, f"{prefix}{key}.")
        elif left != right:
            found[prefix + key] = (left, right)
    return found
