"""A program as text for people."""

from __future__ import annotations

from collections.abc import Sequence

from convsmith.compiler.executable import Executable
from convsmith.compiler.steps import Step
from convsmith.graph import Shape


def describe(name: str, shapes: Sequence[Shape], executable: Executable, level: str, threads: int) -> str:
    """Return one line a step (node, kernel, algorithm, threads, result, millions of operations, bytes in use) and the sums."""
    rows = [("node", "step", "algorithm", "threads", "result", "Mop", "KiB in use")]
    for step, live in zip(executable.steps, executable.arena.live_bytes, strict=True):
        rows.append(
            (step.node, label(step), step.algorithm or "-", str(step.threads), "x".join(map(str, step.target.shape)),
             f"{step.work / 1e6:.2f}", f"{live / 1024:.0f}")
        )  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    given = ", ".join("x".join(map(str, shape)) for shape in shapes)
    constants = sum(array.nbytes for array in executable.constants)
    head = f"program {name!r} for {given} on {level}, at most {threads} thread{'s' if threads > 1 else ''}: {len(executable.steps)} steps"
    tail = f"peak memory of values and scratch {4 * executable.arena.size / 2**20:.2f} MiB, weights {constants / 2**20:.2f} MiB"
    return "\n".join([head, *lines, tail])


def label(step: Step) -> str:
    return f"{step.kind} {step.detail}".strip()
