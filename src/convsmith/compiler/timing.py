"""How long a graph and each of its layers takes on this machine, compiled and tuned."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from convsmith import __version__
from convsmith.compiler.profiling import Profile, profile
from convsmith.compiler.program import Program, build
from convsmith.errors import UsageError
from convsmith.graph import Graph, Shape
from convsmith.kernels import instruction_set, processor, processor_count, tuning_cache

ROUNDS: Final = 200
BUDGET_S: Final = 0.1
"""Runs of one network, and the time after which there are fewer."""

SAMPLE_S: Final = 0.02


@dataclass(frozen=True)
class Timing:
    """What is measured: ``batch`` images at once, on ``threads`` (0: all processors), algorithms tuned for at most ``tune_s`` a network."""

    batch: int = 1
    threads: int = 0
    tune_s: float = 10.0

    def __post_init__(self) -> None:
        if self.batch < 1 or self.threads < 0 or self.tune_s <= 0:
            raise UsageError(f"{self} cannot be measured: batch and tune_s must be positive, threads at least 0")

    def program(self, graph: Graph) -> Program:
        """Return the graph compiled and tuned."""
        return build(graph, tune=self.tune_s, threads=self.threads or processor_count())

    def layers(self, graph: Graph) -> dict[str, float]:
        """Return the seconds of each node in its place within the network."""
        return self.profile(graph).seconds

    def whole(self, graph: Graph) -> float:
        """Return the seconds of one run of the network."""
        return self.profile(graph).total_s

    def profile(self, graph: Graph) -> Profile:
        """Return what each node and the whole take, medians of up to ``ROUNDS`` runs."""
        return profile(self.program(graph), *self._shapes(graph), rounds=ROUNDS, budget_s=BUDGET_S)

    def compare(self, graphs: Mapping[str, Graph], rounds: int = 15) -> dict[str, list[float]]:
        """Return the seconds of one run of each network, a sample each round, in turn so that all meet the same machine.

        A sample is the mean of as many runs as take about ``SAMPLE_S``.
        """
        generator = np.random.default_rng(0)
        ready = {}
        for name, graph in graphs.items():
            shapes = self._shapes(graph)
            executable, inputs = self.program(graph).executable(*shapes), [generator.standard_normal(shape, np.float32) for shape in shapes]
            ready[name] = executable, inputs, max(1, round(SAMPLE_S / executable.seconds(inputs, 3)))
        samples: dict[str, list[float]] = {name: [] for name in graphs}
        for number in range(rounds):
            names = list(ready)
            for name in names[number % len(names) :] + names[: number % len(names)]:
                executable, inputs, repeats = ready[name]
                samples[name].append(executable.seconds(inputs, repeats))
        return samples

    def _shapes(self, graph: Graph) -> list[Shape]:
        return [tuple(self.batch if axis == 0 and n == -1 else n for axis, n in enumerate(value.shape)) for value in graph.inputs]

    @property
    def key(self) -> str:
        """What the times hold for."""
        threads = self.threads or processor_count()
        return " | ".join((processor(), instruction_set(), f"{threads} threads", f"batch {self.batch}", __version__))


def prices_path() -> Path:
    """Return the file of remembered prices: ``prices.json`` beside the tuner's decisions."""
    return tuning_cache.cache_path().with_name("prices.json")


def recall_prices(timing: Timing, path: Path | None = None) -> dict[str, float]:
    """Return the seconds of every kind of layer measured before under these conditions; none where the file cannot be understood."""
    try:
        stored = json.loads((path or prices_path()).read_text(encoding="utf-8"))[timing.key]
        return {str(signature): float(seconds) for signature, seconds in stored.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def remember_prices(timing: Timing, prices: Mapping[str, float], path: Path | None = None) -> bool:
    """Add prices to the file, replacing it at once; False where it cannot be written, which costs only time later."""
    target = path or prices_path()
    try:
        stored = dict(json.loads(target.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        stored = {}
    return tuning_cache.replace(target, {**stored, timing.key: {**recall_prices(timing, target), **prices}})
