"""Speed of an exported file in its own runtime, and of the network within a program in others too."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convsmith.errors import UnsupportedError, UsageError
from convsmith.jobs.text import table

if TYPE_CHECKING:
    from convsmith.compiler import Program
    from convsmith.compiler.steps import Step

SHOWN = 15
"""Steps that are printed; all of them are in the JSON."""

Measured = tuple[list[dict[str, Any]], list[str]]
"""Rows as of `targets.measure`, and notes."""


def of_file(path: Path, threads: int, batches: Sequence[int], rounds: int, profiled: bool) -> dict[str, Any]:
    """Return rows of the whole file, from uint8 images to scores, and of a program also of the network within it.

    A program that Python wrote reads no images: it has the network's rows only.
    """
    from convsmith import compiler

    program = compiler.load(path, threads=threads) if path.suffix == ".program" else None
    if profiled and program is None:
        raise UsageError(f"--profile needs the native engine: a run or a .program file, not {path.name!r}")
    found: dict[str, Any] = {"threads": threads, "rows": [], "notes": []}
    if program is None or {"labels", "preprocess"} <= set(program.metadata):
        found["image_size"], rows, notes = whole(path, threads, batches, rounds)
        found["rows"] += rows
        found["notes"] += notes
    if program is not None:
        shape = image_shape(program, path)
        found.setdefault("image_size", list(shape[1:]))
        rows, notes = bare(program, shape, threads, batches, rounds)
        found["rows"] = rows + found["rows"]
        found["notes"] += notes
        if profiled:
            found["profile"] = profiles(program, shape, batches)
    return found


def whole(path: Path, threads: int, batches: Sequence[int], rounds: int) -> tuple[list[int], list[dict[str, Any]], list[str]]:
    """Return the size of the images, and what the file takes from images to scores in its own runtime and, an ONNX file, in OpenVINO."""
    import numpy as np

    from convsmith import targets

    session = targets.load(path, threads=threads)
    candidates: dict[str, Any] = {f"{session.runtime}, whole file": session.run}
    notes = []
    if path.suffix == ".onnx":
        try:
            candidates["openvino, whole file"] = targets.openvino_run(path, threads)[0]
        except UnsupportedError as error:
            notes.append(str(error))
    p, rng = session.preprocess, np.random.default_rng(0)
    rows = targets.measure(
        candidates, lambda n: rng.integers(0, 256, (n, p.height, p.width, p.channels), np.uint8), batches=batches, rounds=rounds
    )
    return [p.height, p.width], rows, notes


def bare(program: Program, shape: tuple[int, ...], threads: int, batches: Sequence[int], rounds: int) -> Measured:
    """Return what the network of a program takes in the native engine, and in the runtimes that can run it."""
    import numpy as np

    from convsmith import targets

    candidates: dict[str, Any] = {"convsmith": program}
    notes = []
    for name, opener in {"onnxruntime": targets.onnxruntime_run, "openvino": targets.openvino_run}.items():
        try:
            candidates[name] = opener(targets.network_bytes(program.graph), threads)[0]
        except UnsupportedError as error:
            notes.append(f"{name} was not measured: {error}")
    rng = np.random.default_rng(0)
    return targets.measure(candidates, lambda n: rng.standard_normal((n, *shape), np.float32), batches=batches, rounds=rounds), notes


def image_shape(program: Program, path: Path) -> tuple[int, ...]:
    """Return the shape of one image; ``UsageError`` where the program leaves it free."""
    single = program.single()
    if "preprocess" in program.metadata:
        p = json.loads(program.metadata["preprocess"])
        return p["channels"], p["height"], p["width"]
    if single is None or len(single) != 1:
        raise UsageError(f"{path.name} has free image sizes or several inputs; measure it from Python (compiler.profile with shapes)")
    return single[0][1:]


def profiles(program: Program, shape: tuple[int, ...], batches: Sequence[int]) -> list[dict[str, Any]]:
    """Return for each batch what every node of a program takes, in order, and which algorithm and threads it was given."""
    from convsmith import compiler

    found = []
    for batch in batches:
        profile = compiler.profile(program, (batch, *shape))
        main: dict[str, Step] = {}
        for step in chain.from_iterable(made.whole for made in program.executable((batch, *shape)).steps):
            if step.node not in main or step.algorithm:  # of a node's steps the convolution, else the first, says what it is
                main[step.node] = step
        rows = [
            {"node": node, "step": f"{main[node].kind} {main[node].detail}".strip(), "algorithm": main[node].algorithm or None,
             "threads": main[node].threads, "seconds": seconds, "operations": main[node].work}
            for node, seconds in profile.seconds.items()
        ]  # fmt: skip
        found.append({"batch": batch, "total_s": profile.total_s, "rounds": profile.rounds, "steps": rows})
    return found


def profile_lines(profile: Mapping[str, Any]) -> str:
    """Return the slowest steps as text."""
    steps = sorted(profile["steps"], key=lambda step: -step["seconds"])
    clocked = sum(step["seconds"] for step in steps)
    rows = [
        [step["node"], step["step"], step["algorithm"] or "-", step["threads"], f"{1e3 * step['seconds']:.3f}",
         f"{100 * step['seconds'] / clocked:.1f} %", f"{step['operations'] / max(step['seconds'], 1e-9) / 1e9:.0f}"]
        for step in steps[:SHOWN]
    ]  # fmt: skip
    shown = f"; the {SHOWN} slowest of {len(steps)}" if len(steps) > SHOWN else ""
    whole = f"batch {profile['batch']}: {1e3 * profile['total_s']:.3f} ms, {1e3 * clocked:.3f} ms with a clock between the steps"
    return f"{whole}{shown}\n\n" + table(["node", "step", "algorithm", "threads", "ms", "share", "Gop/s"], rows)
