"""A network in a worker: from decoded images of any sizes to scores and logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from convsmith import compiler, targets
from convsmith.data.preprocess import Preprocess, prepare
from convsmith.targets.prediction import outputs
from convsmith.targets.scores import softmax

#: Images that the engine runs at once; a batch is cut into these, so that few sizes are planned and no place is filled with nothing.
SIZES: Final = (16, 8, 4, 2, 1)

Pixels = NDArray[np.uint8]


class Model:
    """An exported file, opened once. A program takes images of different sizes in one batch; other files only neighbours of one size."""

    def __init__(self, path: Path, runtime: str | None, threads: int) -> None:
        native = path.suffix == ".program" and runtime in (None, "native")
        self.program = compiler.load(path, threads=threads) if native else None
        self.session = compiler.open_session(path, threads=threads) if native else targets.load(path, runtime=runtime, threads=threads)
        self.threads = threads

    @property
    def preprocess(self) -> Preprocess:
        return self.session.preprocess

    def warm_up(self, most: int) -> None:
        """Run every size once, so that the first request does not wait for it."""
        p = self.preprocess
        blank = np.zeros((p.height, p.width, p.channels), np.uint8)
        for size in SIZES:
            if size <= most:
                self([blank] * size)

    def __call__(self, images: Sequence[Pixels]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return scores and logits, float32 ``(n, classes)``."""
        if self.program is None:
            parts = [(scores, logits) for _, scores, logits in outputs(self.session, images, batch=SIZES[0])]
            return np.concatenate([scores for scores, _ in parts]), np.concatenate([logits for _, logits in parts])
        logits = run_in_sizes(self.program, prepare(images, self.preprocess, threads=self.threads))
        return softmax(logits, self.session.confidence.temperature), logits


def run_in_sizes(run: Callable[[NDArray[Any]], Any], x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run a batch in pieces of `SIZES`, largest first."""
    parts, first = [], 0
    while first < len(x):
        size = next(size for size in SIZES if size <= len(x) - first)
        parts.append(run(x[first : first + size]))
        first += size
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
