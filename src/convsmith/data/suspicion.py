"""Labels that the other images speak against: each image judged by a model that never saw its label."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

LANDMARKS: Final = 600
RIDGES: Final = (1e-3, 1e-2, 1e-1, 1.0)
TEMPERATURES: Final = np.geomspace(0.02, 2.0, 25)
DOUBTED: Final = 0.03
"""An image is suspicious when its own class has at most this probability and another one at least ``BELIEVED``."""
BELIEVED: Final = 0.6


def label_beliefs(features: NDArray[np.float32], labels: NDArray[np.int64], classes: int, seed: int = 0) -> NDArray[np.float64]:
    """Return the probability of every class for every image, from the labels of all the others, float64 ``(n, classes)``.

    Kernel ridge regression on one-hot labels with a Gaussian kernel of the features' own scale, on at most 600 landmarks; leaving one out
    has a closed form (residual over one less the leverage), so nothing is trained n times. Ridge and the softmax's temperature are those of
    the least log loss left out.

    Shapes: ``features`` (n, d), ``labels`` (n,).
    References: Allen 1974, doi:10.1080/00401706.1974.10489157 (the closed form); Northcutt et al. 2019, arXiv:1911.00068 (the use).
    """
    n = len(labels)
    x = features.astype(np.float64)
    x = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-6)
    rng = np.random.default_rng(seed)
    marks = x[np.sort(rng.choice(n, min(n, LANDMARKS), replace=False))]
    apart = _squares(x, marks)
    kernel = np.exp(-apart / np.median(apart))
    inner = np.exp(-_squares(marks, marks) / np.median(apart))
    values, vectors = np.linalg.eigh(inner)
    kept = values > 1e-8 * values[-1]
    mapped = kernel @ (vectors[:, kept] / np.sqrt(values[kept]))
    targets = np.eye(classes)[labels]
    prior = targets.mean(axis=0)
    spectrum, basis = np.linalg.eigh(mapped.T @ mapped)
    rotated = mapped @ basis
    answers = rotated.T @ (targets - prior)
    best: tuple[float, NDArray[np.float64]] | None = None
    for ridge in RIDGES:
        weight = 1 / (np.maximum(spectrum, 0) + ridge * n / 1000)
        leverage = np.minimum((rotated**2) @ weight, 1 - 1e-6)[:, None]
        fitted = rotated @ (weight[:, None] * answers)
        left_out = (fitted - leverage * (targets - prior)) / (1 - leverage) + prior
        for temperature in TEMPERATURES:
            beliefs = _softmax(left_out / temperature)
            loss = float(-np.log(beliefs[np.arange(n), labels] + 1e-12).mean())
            if best is None or loss < best[0]:
                best = (loss, beliefs)
    assert best is not None
    return best[1]


def suspicious(beliefs: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rows whose label is hardly believed while another one is, the most doubtful first."""
    own = beliefs[np.arange(len(labels)), labels]
    rows = np.flatnonzero((own <= DOUBTED) & (beliefs.max(axis=1) >= BELIEVED))
    order: NDArray[np.int64] = rows[np.argsort(own[rows], kind="stable")]
    return order


def _squares(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    apart: NDArray[np.float64] = np.maximum((a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None, :] - 2 * a @ b.T, 0)
    return apart


def _softmax(x: NDArray[np.float64]) -> NDArray[np.float64]:
    raised = np.exp(x - x.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = raised / raised.sum(axis=1, keepdims=True)
    return shares
