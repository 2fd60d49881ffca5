"""Weights kept on the way through the last quarter of a run, for averages and ensembles."""

from __future__ import annotations

import math
from pathlib import Path

from convsmith.training import checkpoints
from convsmith.training.state import Weights

FROM = 0.75
"""Progress from which snapshots are taken: the learning rate is low by then, and all lie in one basin."""


def due(progress: float, count: int) -> int:
    """Return how many of ``count`` snapshots must have been taken at a progress of the run, 0 to 1; the last is the end."""
    return max(0, min(count, math.floor(count * (progress - FROM) / (1 - FROM) + 1e-9)))


def path(folder: Path, number: int) -> Path:
    """Return the file of snapshot ``number``, counted from 1."""
    return folder / f"snapshot-{number:02d}.pt"


def load(folder: Path) -> list[Weights]:
    """Return the snapshots of a run in the order they were taken; none where it kept none."""
    return [checkpoints.load(file)["model"] for file in sorted(folder.glob("snapshot-*.pt"))]
