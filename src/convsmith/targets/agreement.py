"""Whether an exported file predicts what the trained network predicted, image by image."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convsmith.errors import ParityError, UsageError
from convsmith.targets.prediction import outputs
from convsmith.targets.scores import softmax
from convsmith.targets.sessions import Session, load

TIE = 1e-4


@dataclass(frozen=True)
class Parity:
    """What a file said of images whose logits are known.

    ``disagreements``: indices of images with another top-1, ties left out. ``ties``: images with another top-1 whose two best
    expected scores differ by less than ``tie``. The largest differences are over all images and classes, absolute.
    """

    runtime: str
    images: int
    disagreements: tuple[int, ...]
    ties: tuple[int, ...]
    largest_score_difference: float
    largest_logit_difference: float
    seconds: float
    tie: float = TIE

    @property
    def passed(self) -> bool:
        return not self.disagreements

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"passed": self.passed}

    def __str__(self) -> str:
        word = "agrees" if self.passed else f"DISAGREES on {len(self.disagreements)}"
        tied = f", {len(self.ties)} ties within {self.tie:g}" if self.ties else ""
        largest = f"scores differ by at most {self.largest_score_difference:.2g}, logits by {self.largest_logit_difference:.2g}"
        return f"{self.runtime} {word} of {self.images} images{tied}; {largest}; {self.seconds:.1f} s"


def parity(
    source: Path | str | Session,
    images: Iterable[NDArray[np.uint8]],
    expected_logits: NDArray[np.floating[Any]],
    *,
    runtime: str | None = None,
    threads: int | None = None,
    batch: int = 16,
    tie: float = TIE,
) -> Parity:
    """Run the file on decoded images and compare with the trained network's logits of the same images, in order.

    Scores are compared at the temperature of the file.

    Never raises for a disagreement (``require`` does). A score that is not finite disagrees.

    Shapes: images uint8 ``(h, w, c)`` of any sizes; ``expected_logits`` ``(n, classes)``.
    Raises: ``UsageError`` when counts of images, logits or classes differ.
    """
    session = source if isinstance(source, Session) else load(source, runtime=runtime, threads=threads)
    known: NDArray[np.float64] = np.asarray(expected_logits, np.float64)
    if known.ndim != 2 or known.shape[1] != len(session.labels):
        raise UsageError(f"expected logits have shape {known.shape}; the file has {len(session.labels)} classes")
    start = time.perf_counter()
    scores, logits = _all(session, images, batch, len(known))
    seconds = time.perf_counter() - start
    expected = softmax(known, session.confidence.temperature)
    other = (scores.argmax(1) != expected.argmax(1)) | ~np.isfinite(scores).all(1) | ~np.isfinite(logits).all(1)
    best = np.sort(expected, axis=1)
    tied = (best[:, -1] - best[:, -2] < tie) & np.isfinite(scores).all(1) if expected.shape[1] > 1 else np.zeros(len(expected), bool)
    return Parity(
        runtime=session.runtime,
        images=len(expected),
        disagreements=tuple(np.flatnonzero(other & ~tied).tolist()),
        ties=tuple(np.flatnonzero(other & tied).tolist()),
        largest_score_difference=_largest(scores, expected),
        largest_logit_difference=_largest(logits, known),
        seconds=seconds,
        tie=tie,
    )


def require(result: Parity, path: Path | str) -> None:
    """Raise ``ParityError`` unless the file agreed."""
    if not result.passed:
        some = ", ".join(map(str, result.disagreements[:5]))
        raise ParityError(
            f"{Path(path).name} predicts another class than the trained network for {len(result.disagreements)} of {result.images} images "
            f"(indices {some}{' ...' if len(result.disagreements) > 5 else ''}) in {result.runtime}; logits differ by up to "
            f"{result.largest_logit_difference:.3g}. The export is not usable; please report it with the network's name"
        )


def _all(session: Session, images: Iterable[NDArray[np.uint8]], batch: int, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    scores, logits = (np.full((count, len(session.labels)), np.nan) for _ in range(2))
    seen = 0
    for first, batch_scores, batch_logits in outputs(session, images, batch=batch):
        seen = first + len(batch_scores)
        if seen > count:
            raise UsageError(f"more images than the {count} expected logits")
        scores[first:seen], logits[first:seen] = batch_scores, batch_logits
    if seen != count:
        raise UsageError(f"{seen} images for {count} expected logits; give one image for each row, in order")
    return scores, logits


def _largest(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """The largest absolute difference; infinite where ``a`` is not finite."""
    if not a.size:
        return 0.0
    return float(np.abs(np.where(np.isfinite(a), a - b, np.inf)).max())
