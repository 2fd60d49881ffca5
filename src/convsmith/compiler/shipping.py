"""A program file that reads pixels: preprocessing and labels inside, checked on real images before it is kept."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from convsmith.compiler.program import Program, Quantiser, build, load
from convsmith.data.preprocess import Preprocess, normalise, resize
from convsmith.errors import DataError, UsageError
from convsmith.graph import Graph
from convsmith.targets import Exported, Parity, Session, parity, require

SUFFIX: Final = ".program"


def export(
    graph: Graph,
    preprocess: Preprocess,
    classes: Sequence[str],
    path: Path | str,
    *,
    metadata: Mapping[str, str] | None = None,
    images: Iterable[NDArray[np.uint8]] | None = None,
    expected_logits: NDArray[np.floating[Any]] | None = None,
    plan: Quantiser | None = None,
    ranges: Any = None,
    tune: bool | float = False,
    threads: int | None = None,
    overwrite: bool = False,
) -> Exported:
    """Compile the graph, under a plan if one is given, and write it with preprocessing and labels.

    With ``images`` (decoded, uint8 ``(h, w, c)``) and the trained network's ``expected_logits`` for them, the file is read again, run
    on them, and left as ``*.failed`` unless it agrees.

    Raises: ``ParityError`` when it predicts another class than the network (ties aside); ``UsageError`` for a file that exists.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise UsageError(f"compiled programs are *{SUFFIX} files, but the path is {path.name!r}")
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists; remove it, choose another name, or ask to overwrite it")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}; create it first")
    if (images is None) != (expected_logits is None):
        raise UsageError("parity needs both images and expected_logits, or neither")
    fields = {**(metadata or {}), "labels": json.dumps(list(classes)), "preprocess": json.dumps(preprocess.to_dict())}
    draft = path.with_name(f"{path.name}.failed")
    build(graph, plan, ranges=ranges, tune=tune, threads=threads, metadata=fields).save(draft)
    result: Parity | None = None
    if images is not None and expected_logits is not None:
        result = parity(open_session(draft, threads=threads), images, expected_logits)
        require(result, path)
    draft.replace(path)
    return Exported(path, "native", (path,), path.stat().st_size, result)


def open_session(path: Path | str, *, threads: int | None = None) -> Session:
    """Open a file that ``export`` wrote, to be run on pixels; ``DataError`` for one without preprocessing and labels."""
    path = Path(path)
    program = load(path, threads=threads)
    fields = program.metadata
    if not {"labels", "preprocess"} <= set(fields):
        raise DataError(f"{path.name} carries no labels and preprocessing; call it from Python with normalised arrays (compiler.load)")
    preprocess = Preprocess.from_dict(json.loads(fields["preprocess"]))
    return Session(path, "native", tuple(json.loads(fields["labels"])), preprocess, fields, on_pixels(program, preprocess))


def on_pixels(program: Program, preprocess: Preprocess) -> Any:
    """Return a function from uint8 images ``(n, h, w, channels)`` of one size to ``[scores, logits]``."""

    def run(images: NDArray[Any]) -> list[NDArray[Any]]:
        small = np.stack([resize(image, preprocess) for image in images])
        logits = program(normalise(small, preprocess))
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return [powers / powers.sum(axis=1, keepdims=True), logits]

    return run
