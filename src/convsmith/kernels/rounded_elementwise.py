"""Elementwise arithmetic with one rounding of the exact result, and sums along axes with every addition rounded.

``add``, ``subtract``, ``multiply``, ``divide``, ``sqrt`` and ``fused_multiply_add`` are exact: the float64 result is rounded to odd, and
what is so rounded to 53 bits rounds to a format as the exact result does, in any mode, with up to 24 random bits. ``exp`` and ``log``
round NumPy's float64 result, whose error is below one unit of its last place: their result is that of the exact value unless this lies
within 2^-52 of itself of a number at which rounding changes its mind.

All take float32 arrays that broadcast, and read ``format``, ``rounding``, ``overflow`` and ``random_bits`` of the arithmetic; the random
bits are those that `formats.round_array` would give the elements of the result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from convsmith import formats
from convsmith.errors import UsageError
from convsmith.kernels.arithmetic import Arithmetic
from convsmith.kernels.rounded import check_operand, compute
from convsmith.kernels.rounded_reference import odd_sum, to_odd
from convsmith.kernels.rounded_tables import along_axes

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

#: Leave the upper 26 or 27 of the 53 bits of a float64.
_UPPER_26: Final = np.uint64((1 << 64) - (1 << 27))
_UPPER_27: Final = np.uint64((1 << 64) - (1 << 26))


def add(x: F32, y: F32, arithmetic: Arithmetic, *, seed: int = 0, stream: int = 0) -> F32:
    """Return x + y, rounded once."""
    return _apply(odd_sum, (x, y), arithmetic, seed, stream)


def subtract(x: F32, y: F32, arithmetic: Arithmetic, *, seed: int = 0, stream: int = 0) -> F32:
    """Return x - y, rounded once."""
    return _apply(lambda a, b: odd_sum(a, -b), (x, y), arithmetic, seed, stream)


def multiply(x: F32, y: F32, arithmetic: Arithmetic, *, seed: int = 0, stream: int = 0) -> F32:
    """Return x y, rounded once."""
    return _apply(np.multiply, (x, y), arithmetic, seed, stream)


def divide(x: F32, y: F32, arithmetic: Arithmetic, *, seed: int = 0, stream: int = 0) -> F32:
    """Return x / y, rounded once; x / 0 is infinite, 0 / 0 NaN, as the format and overflow then say."""
    return _apply(_odd_quotient, (x, y), arithmetic, seed, stream)


def sqrt(x: F32, arithmetic: Arithmetic, *, seed: int = 0, stream: int = 0) -> F32:
    """Return the square root, rounded once; NaN below zero."""
    return _apply(_odd_root, (x,), arithmetic, seed, stream)


def fused_multiply_add(x: F32, y: F32, z: F32, arithmetic: Arithmetic, *, seed: int = 0, stream: int = 0) -> F32:
    """Return x y + z, rounded once."""
    return _apply(lambda a, b, c: odd_sum(a * b, c), (x, y, z), arithmetic, seed, stream)


def exp(x: F32, arithmetic: Arithmetic, *, seed: int = 0, stream: int = 0) -> F32:
    """Return e to the power of x: the float64 result, rounded."""
    return _apply(np.exp, (x,), arithmetic, seed, stream)


def log(x: F32, arithmetic: Arithmetic, *, seed: int = 0, stream: int = 0) -> F32:
    """Return the natural logarithm: the float64 result, rounded; NaN below zero."""
    return _apply(np.log, (x,), arithmetic, seed, stream)


def total(
    x: F32,
    arithmetic: Arithmetic,
    axes: tuple[int, ...] | None = None,
    *,
    seed: int = 0,
    stream: int = 0,
    threads: int | None = None,
    isa: str | None = None,
) -> F32:
    """Return the sum over some axes (all by default), every addition rounded, in the order that the arithmetic names.

    It is the matrix product with a row of ones: terms in C order of the axes, each first rounded to the products' format if there is one.
    Shapes: that of ``x`` without the axes.
    Raises: UsageError for axes that ``x`` does not have.
    """
    array = check_operand("x", x, x.ndim if isinstance(x, np.ndarray) else 0)
    chosen = tuple(range(array.ndim)) if axes is None else axes
    if len(set(chosen)) != len(chosen) or any(not -array.ndim <= axis < array.ndim for axis in chosen):
        raise UsageError(f"axes must be different axes of an array of {array.ndim} axes; got {chosen}.")
    summed = tuple(sorted(axis % array.ndim for axis in chosen))
    kept = tuple(size for axis, size in enumerate(array.shape) if axis not in summed)
    tables = (along_axes(array.shape, summed),)
    one = np.ones(1, np.float32)
    return compute(kept, one, array, tables, arithmetic, seed=seed, stream=stream, out=None, threads=threads, isa=isa)


def _apply(function: Callable[..., F64], arrays: tuple[F32, ...], arithmetic: Arithmetic, seed: int, stream: int) -> F32:
    if not isinstance(arithmetic, Arithmetic):
        raise UsageError(f"arithmetic must be an Arithmetic; got {arithmetic!r}.")
    checked = [check_operand("xyz"[i], array, np.ndim(array)) for i, array in enumerate(arrays)]
    try:
        wide = [array.astype(np.float64) for array in np.broadcast_arrays(*checked)]
    except ValueError:
        raise UsageError(f"arrays of shapes {', '.join(str(array.shape) for array in checked)} do not broadcast.") from None
    with np.errstate(all="ignore"):
        exact = np.asarray(function(*wide), np.float64)
    result = formats.round_array(
        exact,
        arithmetic.format,
        arithmetic.rounding,
        arithmetic.overflow,
        seed=seed,
        stream=stream,
        random_bits=arithmetic.random_bits,
    )
    result[np.isnan(result)] = np.nan  # the positive one
    return result


def _odd_quotient(x: F64, y: F64) -> F64:
    """Return x / y of float32 numbers rounded to odd: the remainder, exact by halves, tells which side the quotient missed."""
    quotient = x / y
    upper = (quotient.view(np.uint64) & _UPPER_27).view(np.float64)
    remainder = (x - upper * y) - (quotient - upper) * y
    return to_odd(quotient, np.where(y < 0, -remainder, remainder))


def _odd_root(x: F64) -> F64:
    """Return the root of float32 numbers rounded to odd; the remainder ``x - root^2`` is taken in halves that have no rounding error."""
    root = np.sqrt(x)
    upper = (root.view(np.uint64) & _UPPER_26).view(np.float64)
    lower = root - upper
    return to_odd(root, ((x - upper * upper) - 2 * upper * lower) - lower * lower)
