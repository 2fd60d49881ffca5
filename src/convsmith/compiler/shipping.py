"""A program file that reads pixels: preprocessing, labels and confidence inside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from convsmith.compiler.program import Program, build, load
from convsmith.data.preprocess import Preprocess, prepare
from convsmith.errors import DataError
from convsmith.targets import Session, Shipment
from convsmith.targets.scores import softmax
from convsmith.targets.sessions import Run, session_of


def write(shipped: Shipment, path: Path) -> tuple[Path, ...]:
    """Compile the network, under a plan if there is one, and write the program with the fields of the shipment."""
    build(shipped.graph, shipped.plan, ranges=shipped.ranges, metadata=shipped.fields()).save(path)
    return (path,)


def opened(path: Path, threads: int | None = None) -> tuple[Run, dict[str, str]]:
    """Return a function that runs a program on pixels, and its metadata; `DataError` for one without preprocessing and labels."""
    program = load(path, threads=threads)
    fields = program.metadata
    if not {"labels", "preprocess"} <= set(fields):
        raise DataError(f"{path.name} carries no labels and preprocessing; call it from Python with normalised arrays (compiler.load)")
    preprocess = Preprocess.from_dict(json.loads(fields["preprocess"]))
    run = on_pixels(program, preprocess, float(fields.get("temperature", 1)))
    return run, fields


def open_session(path: Path | str, *, threads: int | None = None) -> Session:
    """Open a file of `targets.export` with target native, to be run on pixels."""
    return session_of(Path(path), "native", *opened(Path(path), threads))


def on_pixels(program: Program, preprocess: Preprocess, temperature: float = 1.0) -> Run:
    """Return a function from uint8 images ``(n, h, w, channels)`` of one size to ``[scores, logits]``."""

    def run(images: NDArray[Any]) -> list[NDArray[Any]]:
        logits = program(prepare(list(images), preprocess, threads=program.threads))
        return [softmax(logits, temperature), logits]

    return run
