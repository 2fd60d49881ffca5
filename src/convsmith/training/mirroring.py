"""Whether mirrored images may be used for training: asked of the images, never of the name of the data set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convsmith.data import batches, spread
from convsmith.data.dataset import Split
from convsmith.data.preprocess import Preprocess

SAMPLE = 2000
SIDE = 16
LEAST_SHARE = 0.1


@dataclass(frozen=True)
class Mirroring:
    """What a nearest-neighbour classifier says about mirrored examples.

    ``images``: how many were asked. ``share``: part of them whose most similar other image is a mirrored one; a collection that looks
    the same in a mirror has about one half. ``fixed``, ``broken``: answers that the mirrored examples put right and wrong.
    """

    images: int
    share: float
    fixed: int
    broken: int

    @property
    def allowed(self) -> bool:
        """Mirrored images occur among the real ones, and do not break more answers than chance (two standard deviations) would."""
        return self.share >= LEAST_SHARE and self.broken - self.fixed <= 2 * np.sqrt(self.broken + self.fixed)

    def __str__(self) -> str:
        return (
            f"for {100 * self.share:.0f} % of {self.images:,} training images the most similar other image is a mirrored one, and mirrored "
            f"examples put {self.fixed} nearest-neighbour answers right and {self.broken} wrong"
        )


def ask(split: Split, preprocess: Preprocess) -> Mirroring:
    """Compare up to 2,000 evenly spread images, at 16 pixels a side, with each other and with their mirror images."""
    rows = spread(len(split), SAMPLE)
    small = Preprocess(
        min(SIDE, preprocess.height),
        min(SIDE, preprocess.width),
        preprocess.channels,
        preprocess.resize,
        preprocess.crop_fraction,
        preprocess.mean,
        preprocess.std,
    )
    x = np.concatenate([x for x, _, _ in batches(split, small, 256, order=rows)])
    return compare((x / np.float32(255)).astype(np.float32), split.labels[rows])


def compare(x_nhwc: NDArray[np.float32], labels: NDArray[np.int64]) -> Mirroring:
    """Find the nearest other image of each, among the originals and among the mirror images of the others."""
    n = len(x_nhwc)
    if n < 2:
        return Mirroring(n, 0.0, 0, 0)
    plain, mirrored = x_nhwc.reshape(n, -1), x_nhwc[:, :, ::-1].reshape(n, -1)
    to_plain, to_mirrored = _distances(plain, plain), _distances(plain, mirrored)
    near_plain, near_mirrored = to_plain.argmin(1), to_mirrored.argmin(1)
    mirror_nearer = to_mirrored.min(1) < to_plain.min(1)
    before = labels[near_plain] == labels
    after = np.where(mirror_nearer, labels[near_mirrored], labels[near_plain]) == labels
    return Mirroring(n, float(mirror_nearer.mean()), int((after & ~before).sum()), int((before & ~after).sum()))


def _distances(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return squared distances, infinite on the diagonal."""
    squares: NDArray[np.float32] = (a**2).sum(1)[:, None] + (b**2).sum(1)[None, :] - 2 * (a @ b.T)
    np.fill_diagonal(squares, np.inf)
    return squares
