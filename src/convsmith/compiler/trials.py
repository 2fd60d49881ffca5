"""Running one layer alone, to find how long each algorithm takes."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from convsmith.kernels import ConvolutionShape, integer_native, native

Array = np.ndarray[Any, Any]

SAMPLE_S: Final = 0.002
"""A sample repeats a layer until it lasts about so long."""

ABSENT: Final = (4, 0, 0)
"""A place that is none, see native/program.h."""


@dataclass(frozen=True)
class Choice:
    """A native algorithm of ``kernels.ALGORITHMS`` and a number of threads."""

    algorithm: str
    threads: int


def stopwatch(shape: ConvolutionShape, choices: list[Choice], level: str) -> Callable[[Choice], float]:
    """Return a function that runs a choice on random numbers for about two milliseconds and returns the seconds of one run."""
    runs = trial(shape, choices, level) if shape.dtype == "float32" else integer_trial(shape, choices, level)
    repeats = dict.fromkeys(choices, 0)

    def measure(choice: Choice) -> float:
        if not repeats[choice]:
            runs[choice](1)
            repeats[choice] = max(1, min(1000, round(SAMPLE_S / max(runs[choice](1), 1e-7))))
        return runs[choice](repeats[choice]) / repeats[choice]

    return measure


Trial = Callable[[int], float]
"""Seconds of so many runs."""


def trial(shape: ConvolutionShape, choices: list[Choice], level: str) -> dict[Choice, Trial]:
    """Return each choice on random float32 numbers."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal((shape.batch, *shape.size, shape.in_channels), np.float32).reshape(-1)
    w = generator.standard_normal((shape.out_channels, shape.in_channels // shape.groups, *shape.windows.kernel), np.float32)
    y = np.empty(int(np.prod(shape.output)), np.float32)
    prepared = {name: native.prepare(name, w, shape, level).values for name in {choice.algorithm for choice in choices}}
    step = "convolution", [*native.sizes(shape), 0, 0], [0.0, 0.0], [ABSENT, ABSENT]
    return {
        choice: timed(
            level, choice, x, y, [prepared[choice.algorithm]], step, native.workspace_bytes(choice.algorithm, shape, choice.threads)
        )
        for choice in choices
    }


def integer_trial(shape: ConvolutionShape, choices: list[Choice], level: str) -> dict[Choice, Trial]:
    """Return each choice on random codes, whose result are codes."""
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, (shape.batch, *shape.size, shape.in_channels), np.uint8)
    w = generator.integers(-127, 128, (shape.out_channels, shape.in_channels // shape.groups, *shape.windows.kernel), np.int8)
    y, zeros, factors = (
        np.empty(int(np.prod(shape.output)), np.uint8),
        np.zeros(shape.out_channels, np.int32),
        np.full(shape.out_channels, 1e-3),
    )
    prepared = {name: integer_native.prepare(name, w, shape, level).values.view(np.float32) for name in {c.algorithm for c in choices}}
    more = [native.float_bytes(zeros), factors.astype(np.float32)]
    step = "integer_convolution", [*native.sizes(shape), 128, 2, 128, 0, 255, 0, 0, 0, 0], [0.0, 0.0], [(1, 1, 0), (1, 2, 0), ABSENT]
    return {
        choice: timed(
            level, choice, native.float_bytes(x), native.float_bytes(y), [prepared[choice.algorithm], *more], step,
            integer_native.workspace_bytes(choice.algorithm, shape, choice.threads),
        )
        for choice in choices
    }  # fmt: skip


def timed(level: str, choice: Choice, x: Array, y: Array, constants: list[Array], step: tuple[Any, ...], workspace_bytes: int) -> Trial:
    """Return a program of one step."""
    program = importlib.import_module("convsmith._native").Program(level, -(-workspace_bytes // 4), [x.size], [y.size])
    for constant in constants:
        program.constant(constant)
    kind, sizes, numbers, places = step
    program.add(kind, choice.algorithm, [(3, 0, 0), (2, 0, 0), (1, 0, 0), *places, (0, 0, 0)], sizes, numbers, choice.threads)
    return lambda repeats: float(program.timed([x], [y], repeats))
