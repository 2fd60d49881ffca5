"""Approximations of an array by products of smaller ones: singular values, Tucker-2, canonical polyadic."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

Array = np.ndarray[Any, Any]

SWEEPS: Final = 60
"""Alternations of a canonical decomposition; the error then changes by less than a thousandth on layers of ResNet-20."""

LOOSENING: Final = 1.02
"""Factor by which the error of a canonical decomposition may grow for terms that cancel each other less."""


def truncated(matrix: Array, rank: int) -> tuple[Array, Array]:
    """Return ``left, right`` whose product is the nearest matrix of that rank, singular values shared equally between both.

    References: Eckart, Young 1936, Psychometrika 1: the squared error is the sum of the squares of the other singular values.
    """
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    root = np.sqrt(s[:rank])
    return u[:, :rank] * root, root[:, None] * vt[:rank]


def tucker2(w_kcrs: Array, out_rank: int, in_rank: int, sweeps: int = 10) -> tuple[Array, Array, Array]:
    """Return ``core, outputs, inputs`` with w[k,c] about sum_ij outputs[k,i] core[i,j] inputs[c,j], both factors orthonormal.

    The truncated singular vectors of both unfoldings (HOSVD), then alternating best subspaces (HOOI), which never raises the error.

    References: De Lathauwer, De Moor, Vandewalle 2000, SIAM J. Matrix Anal. Appl. 21, algorithm 4.2; Kim et al. 2016, arXiv:1511.06530.
    """
    outputs, inputs = basis(unfold(w_kcrs, 0), out_rank), basis(unfold(w_kcrs, 1), in_rank)
    for _ in range(sweeps):
        outputs = basis(unfold(np.einsum("kcrs,cj->kjrs", w_kcrs, inputs, optimize=True), 0), out_rank)
        inputs = basis(unfold(np.einsum("kcrs,ki->icrs", w_kcrs, outputs, optimize=True), 1), in_rank)
    core = np.einsum("kcrs,ki,cj->ijrs", w_kcrs, outputs, inputs, optimize=True)
    return core, outputs, inputs


def unfold(tensor: Array, axis: int) -> Array:
    """Return the tensor as a matrix whose rows run over one axis."""
    return np.moveaxis(tensor, axis, 0).reshape(tensor.shape[axis], -1)


def basis(matrix: Array, rank: int) -> Array:
    """Return the first left singular vectors, by the smaller Gram matrix where there are many more columns than rows."""
    if matrix.shape[1] > 2 * matrix.shape[0]:
        _, vectors = np.linalg.eigh(matrix @ matrix.T)
        return np.ascontiguousarray(vectors[:, ::-1][:, :rank])
    return np.linalg.svd(matrix, full_matrices=False)[0][:, :rank]


def canonical(tensor: Array, rank: int) -> list[Array]:
    """Return one matrix an axis, columns being terms: the tensor is about the sum over terms of their outer products.

    Alternating least squares with a ridge on the squared size of the terms, which falls while they converge. Plain least squares lets
    terms grow without limit and cancel each other; so the ridge is then raised again as long as the error stays within ``LOOSENING``
    of the best: the terms are the smallest for that error. Size is shared equally between the factors.

    References: Lebedev et al. 2015, arXiv:1412.6553; Phan et al. 2020, arXiv:2008.05441, section 3 (error preserving correction).
    """
    scale = float(np.square(tensor).sum()) or 1.0
    factors = [first_guess(unfold(tensor, axis), rank, axis) for axis in range(tensor.ndim)]
    for sweep in range(SWEEPS):
        factors = alternate(tensor, factors, scale / rank * 10.0 ** -(2 + 6 * min(1.0, 2 * sweep / SWEEPS)))
    allowed = LOOSENING * max(residual(tensor, factors), 1e-12 * scale)
    for exponent in np.arange(-7.5, 0.0, 0.5):
        stable = factors
        for _ in range(3):
            stable = alternate(tensor, stable, scale / rank * 10.0**exponent)
        if residual(tensor, stable) > allowed:
            break
        factors = stable
    sizes = np.prod([np.linalg.norm(factor, axis=0) for factor in factors], axis=0)
    return [unit(factor) * sizes ** (1 / tensor.ndim) for factor in factors]


def first_guess(matrix: Array, rank: int, seed: int) -> Array:
    """Return singular vectors, and beyond their number random ones; all of them a little random, since symmetry would never be left."""
    vectors = basis(matrix, min(rank, matrix.shape[0]))
    noise = unit(np.random.default_rng(seed).standard_normal((matrix.shape[0], rank)))
    noise[:, : vectors.shape[1]] *= 0.3
    noise[:, : vectors.shape[1]] += vectors
    return unit(noise)


def alternate(tensor: Array, factors: list[Array], ridge: float) -> list[Array]:
    """Solve for each factor in turn, the others of unit columns, so that ``ridge`` weighs the squared sizes of terms, kept in the last."""
    factors = list(factors)
    for axis in range(tensor.ndim):
        others = [unit(factors[other]) for other in range(tensor.ndim) if other != axis]
        gram = np.prod([other.T @ other for other in others], axis=0)
        letters = "abcdef"[: tensor.ndim]
        rest = letters.replace(letters[axis], "")
        right = np.einsum(f"{letters},{','.join(f'{letter}z' for letter in rest)}->{letters[axis]}z", tensor, *others, optimize=True)
        factors[axis] = np.linalg.solve(gram + ridge * np.eye(len(gram)), right.T).T
    return [*map(unit, factors[:-1]), factors[-1]]


def rebuilt(factors: list[Array]) -> Array:
    """Return the sum of the outer products of the columns."""
    letters = "abcdef"[: len(factors)]
    return np.asarray(np.einsum(f"{','.join(f'{letter}z' for letter in letters)}->{letters}", *factors, optimize=True))


def residual(tensor: Array, factors: list[Array]) -> float:
    return float(np.square(tensor - rebuilt(factors)).sum())


def unit(matrix: Array) -> Array:
    """Return the matrix with columns of length 1; a column of zeros stays."""
    return np.asarray(matrix / np.maximum(np.linalg.norm(matrix, axis=0), 1e-300))
