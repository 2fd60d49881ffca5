"""Which ranks of a layer are worth trying."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def energy_rank(values: Array, share: float) -> int:
    """Return how many of the falling singular values hold that share of the sum of their squares, at least 1."""
    squares = np.square(values)
    return int(np.searchsorted(np.cumsum(squares) / max(float(squares.sum()), 1e-300), share - 1e-12)) + 1


def singular_values(matrix: Array) -> Array:
    """Return the falling singular values, by the smaller Gram matrix: exact enough for choosing ranks, and many times quicker."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    return np.asarray(np.sqrt(np.maximum(np.linalg.eigvalsh(wide @ wide.T)[::-1], 0)))


def variational_rank(values: Array, shape: tuple[int, ...]) -> int:
    """Return the rank that empirical variational Bayes finds in a matrix with these singular values and noise of unknown variance.

    0 when all of it is noise.

    References: Nakajima, Sugiyama, Babacan, Tomioka 2013, JMLR 14, theorem 2 and corollary 1 (the analytic global solution).
    """
    from scipy.optimize import minimize_scalar

    rows, columns = sorted(shape)
    squares = np.square(values)
    alpha = rows / columns
    tau = 2.5129 * np.sqrt(alpha)
    border = (1 + tau) * (1 + alpha / tau)
    first = max(1, min(int(np.ceil(rows / (1 + alpha))) - 1, rows - 1))
    most = float(squares.sum() / (rows * columns))
    least = max(float(squares[min(first, rows - 1)] / (columns * border)), float(squares[min(first, rows - 1) :].mean() / columns))
    if not 0 < least < most:
        return int((squares > columns * most * border).sum())

    def free_energy(variance: float) -> float:
        x = squares / (columns * variance)
        signal, noise = x[x > border], x[x <= border]
        shifted = signal - (1 + alpha)
        t = 0.5 * (shifted + np.sqrt(np.square(shifted) - 4 * alpha))
        parts = (noise - np.log(np.maximum(noise, 1e-300))).sum() + (signal - t).sum() + np.log((t + 1) / signal).sum()
        return float(parts + alpha * np.log(t / alpha + 1).sum())

    variance = float(minimize_scalar(free_energy, bounds=(least, most), method="bounded").x)
    return int((squares > columns * variance * border).sum())


def ladder(most: int, wanted: Iterable[float], *, step: int = 8) -> list[int]:
    """Return ranks below ``most``, rising: each of ``wanted`` rounded to whole vectors of the kernels, where there is room for several."""
    unit = step if most > 2 * step else max(1, most // 4)
    rounded = {max(unit, unit * round(value / unit)) for value in wanted}
    return sorted(rank for rank in rounded if 0 < rank < most)
