"""The border of array rounding: what comes in, where it goes out, and how a scale lies along it."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convsmith.errors import UsageError

F32 = NDArray[np.float32]

#: Integers up to here are float64 values.
_EXACT_INTEGER = 1 << 53


class Scale(NamedTuple):
    """Factors along a C-ordered array: element ``i`` is divided by ``factors[i // inner % len(factors)]``."""

    factors: F32
    inner: int


def as_carrier(x: ArrayLike) -> NDArray[np.float32] | NDArray[np.float64]:
    """Return the input as a C-ordered float32 or, where float32 could not hold it exactly, float64 array.

    Raises: UsageError for what is not a real number, and for integers beyond 2^53.
    """
    array = np.asarray(x)
    if array.dtype in (np.float32, np.float64):
        return np.ascontiguousarray(array).reshape(array.shape)
    if array.dtype == np.float16 or (array.dtype.kind in "iub" and array.dtype.itemsize <= 2):
        return array.astype(np.float32, order="C")
    if array.dtype.kind in "iu":
        if array.size and (int(array.max()) > _EXACT_INTEGER or int(array.min()) < -_EXACT_INTEGER):
            raise UsageError(f"Integers beyond 2^53 cannot be rounded exactly; the array spans {array.min()} to {array.max()}.")
        return array.astype(np.float64, order="C")
    raise UsageError(f"Only real numbers can be rounded (float16, float32, float64, integers, bool); got an array of {array.dtype}.")


def check_out(out: F32 | None, shape: tuple[int, ...]) -> None:
    """Refuse a result array that is not float32, not writable or of another shape."""
    if out is None:
        return
    if out.dtype != np.float32 or out.shape != shape or not out.flags.writeable:
        raise UsageError(
            f"out must be a writable float32 array of shape {shape}; got {out.dtype} of shape {out.shape}"
            + ("." if out.flags.writeable else ", read-only.")
        )


def as_scale(scale: ArrayLike | None, axis: int | None, shape: tuple[int, ...]) -> Scale | None:
    """Return the factors of a scale: one for all, or one for each index of ``axis``.

    Raises: UsageError for a scale that is not positive and finite, or whose length is not that of the axis.
    """
    if scale is None:
        return None
    factors = np.asarray(scale, np.float32)
    if not (np.isfinite(factors) & (factors > 0)).all():
        raise UsageError("Scales must be positive and finite in float32.")
    if factors.size == 1:
        return Scale(np.ascontiguousarray(factors.reshape(1)), 1)
    if axis is None or not -len(shape) <= axis < len(shape) or factors.shape != (shape[axis],):
        raise UsageError(
            f"A scale is one number, or one for each index of an axis; got a scale of shape {factors.shape} "
            f"with axis={axis} for an array of shape {shape}."
        )
    return Scale(np.ascontiguousarray(factors), math.prod(shape[axis % len(shape) + 1 :]))
