"""How long each node of a graph takes in the native engine, and what memory a run takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from convsmith.compiler.program import Program
from convsmith.compiler.steps import Step
from convsmith.errors import UsageError
from convsmith.graph import Shape

LEAST_ROUNDS: Final = 5
BUDGET_S: Final = 3.0


@dataclass(frozen=True)
class Profile:
    """One program on inputs of some shapes.

    ``seconds``: of each node that has steps of its own, the median over the rounds; a node without was fused into another or computed
    when the program was built; those that run together a band of lines at a time share their time by ``effort``. ``total_s``: the median
    of whole runs without a clock between the steps. ``algorithms``: of convolutions. ``values_bytes``: values and scratch memory at once
    at most; ``constants_bytes``: weights as the kernels want them.
    """

    seconds: dict[str, float]
    algorithms: dict[str, str]
    total_s: float
    rounds: int
    values_bytes: int
    constants_bytes: int


def profile(
    program: Program, *shapes: Shape, rounds: int = 15, budget_s: float = BUDGET_S, clock: Callable[[], float] = time.perf_counter
) -> Profile:
    """Run a program on random numbers and return the time of each of its nodes.

    Rounds with a clock between the steps and whole runs take turns. After five rounds it ends early once ``budget_s`` is spent.

    Raises: ``UsageError`` for fewer than 5 rounds, or a graph of free sizes without ``shapes``.
    """
    if rounds < LEAST_ROUNDS:
        raise UsageError(f"rounds is {rounds}; give at least {LEAST_ROUNDS}, so that a median means something")
    chosen = shapes or program.single()
    if chosen is None:
        raise UsageError(f"the inputs of {program.graph.name!r} have free sizes; give a shape for each, such as (1, 3, 224, 224)")
    executable = program.executable(*chosen)
    generator = np.random.default_rng(0)
    inputs = [generator.standard_normal(shape, np.float32) for shape in chosen]
    executable.profile(inputs)
    parts: list[list[float]] = []
    wholes: list[float] = []
    begin = clock()
    while len(parts) < rounds and (len(parts) < LEAST_ROUNDS or clock() - begin < budget_s):
        parts.append(executable.profile(inputs))
        wholes.append(executable.seconds(inputs, 1))
    seconds: dict[str, float] = {}
    for step, times in zip(executable.steps, zip(*parts, strict=True), strict=True):
        efforts = [effort(part) for part in step.whole]
        for part, share in zip(step.whole, efforts, strict=True):
            seconds[part.node] = seconds.get(part.node, 0.0) + statistics.median(times) * share / sum(efforts)
    return Profile(
        seconds,
        {part.node: part.algorithm for step in executable.steps for part in step.whole if part.algorithm},
        statistics.median(wholes),
        len(parts),
        4 * executable.arena.size,
        sum(array.nbytes for array in executable.constants),
    )


def effort(step: Step) -> float:
    """Return the operations of a step; those of a depthwise convolution count thrice, for it does a third as many a second."""
    return max(1.0, (3.0 if step.algorithm == "depthwise" else 1.0) * step.work)
