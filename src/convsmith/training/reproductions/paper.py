"""A paper as data: its networks, the number formats it compares, its recipes, its figures and its claims."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from convsmith.errors import UsageError, near
from convsmith.precision.plan import Plan
from convsmith.training.config import Training

Size = Literal["quick", "full"]

REFERENCE = "float32"
"""The arm that the others are compared with: the same network and recipe without a plan."""


@dataclass(frozen=True)
class Arm:
    """One way to compute an experiment. ``plan`` None is float32.

    ``published``: the paper's test error in percent, with ``where`` it stands there; None where it prints none. ``training``: settings
    that differ from the setup's. ``seeds``: how many of the setup's seeds it runs; None all, so that arms whose outcome is plain cost less.
    ``x``: its place on the horizontal axis of a curve.
    """

    name: str
    plan: Plan | None = None
    published: float | None = None
    where: str = ""
    training: Mapping[str, Any] = field(default_factory=dict)
    seeds: int | None = None
    x: float | None = None


@dataclass(frozen=True)
class Setup:
    """How an experiment is run: the paper's way, or shortened.

    ``images``: training images, 0 for all. ``val``: part of the training images that chooses the weights; None is about 5,000.
    ``options``: of the network, on top of the zoo's. ``shortened``: what was left out, in words.
    """

    arms: tuple[Arm, ...]
    training: Training
    images: int = 0
    seeds: int = 3
    val: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    shortened: str = ""

    def runs(self) -> list[tuple[Arm, int]]:
        """Return every arm with every seed: seed by seed, so that a first look at all arms comes early."""
        return [(arm, seed) for seed in range(self.seeds) for arm in self.arms if arm.seeds is None or seed < arm.seeds]


@dataclass(frozen=True)
class Claim:
    """A statement about test errors in percent that either holds or fails.

    ``within``: the mean of ``arm`` is at most ``points`` above that of ``against``. ``above``: it is at least so far above.
    ``at_most``: the mean of ``arm`` is at most ``points``. ``order``: the means of ``arms`` do not fall by more than ``points``.
    """

    kind: Literal["within", "above", "at_most", "order"]
    text: str
    arm: str = ""
    points: float = 0.0
    against: str = REFERENCE
    arms: tuple[str, ...] = ()


@dataclass(frozen=True)
class Experiment:
    """One network on one set of images. ``setups``: ``quick`` and ``full``. ``axis``: what the arms' ``x`` is, where they make a curve."""

    key: str
    title: str
    data: Literal["mnist", "cifar10", "svhn"]
    model: str
    setups: Mapping[Size, Setup]
    claims: tuple[Claim, ...] = ()
    differs: tuple[str, ...] = ()
    mean: float = 0.0
    std: float = 1.0
    axis: str = ""

    def setup(self, size: Size) -> Setup:
        return self.setups[size]


@dataclass(frozen=True)
class Paper:
    """Everything that is reproduced of one paper. ``citation``: authors, year, title, number."""

    key: str
    citation: str
    about: str
    experiments: tuple[Experiment, ...]

    def chosen(self, only: tuple[str, ...]) -> tuple[Experiment, ...]:
        """Return the experiments of those names, all when none is named; UsageError for an unknown one."""
        names = [experiment.key for experiment in self.experiments]
        for name in only:
            if name not in names:
                raise UsageError(f"{self.key} has no experiment {name!r}; there are {', '.join(names)}.{near(name, names)}")
        return tuple(experiment for experiment in self.experiments if not only or experiment.key in only)
