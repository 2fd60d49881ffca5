"""The border of array rounding: what comes in, where it goes out, and how scales and zero points lie along it."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convsmith.errors import UsageError
from convsmith.formats.format import Format

F32 = NDArray[np.float32]
Floats = NDArray[np.float32] | NDArray[np.float64]

#: Integers up to here are float64 values.
_EXACT_INTEGER = 1 << 53


class Scale(NamedTuple):
    """Factors along a C-ordered array, one for each run of ``inner`` elements in turn; zero points lie alike.

    With groups, every ``group`` of the ``length`` indices of an axis share ``inner`` factors, one for each element inside of the axis.
    """

    factors: F32
    inner: int
    zeros: F32 | None = None
    length: int = 0
    group: int = 0

    def positions(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return which factor the elements from ``start`` to ``stop`` have."""
        element = np.arange(start, stop)
        if not self.group or self.factors.size == 1:
            return element // self.inner % self.factors.size
        row, groups = element // self.inner, -(-self.length // self.group)
        return (row // self.length * groups + row % self.length // self.group) * self.inner + element % self.inner


def as_carrier(x: ArrayLike) -> Floats:
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


def check_out(out: NDArray[Any] | None, shape: tuple[int, ...], fmt: Format) -> None:
    """Refuse a result array that is not of the format's carrier, not writable or of another shape."""
    if out is None:
        return
    if out.dtype != fmt.carrier or out.shape != shape or not out.flags.writeable:
        raise UsageError(
            f"out must be a writable {fmt.carrier} array of shape {shape}; got {out.dtype} of shape {out.shape}"
            + ("." if out.flags.writeable else ", read-only.")
        )


def as_scale(
    scale: ArrayLike | None, axis: int | None, shape: tuple[int, ...], zero_point: ArrayLike | None = None, group: int | None = None
) -> Scale | None:
    """Return the factors of a scale: one for all, one for each index of ``axis``, or one for each group of ``group`` indices of it.

    The scale of groups has the array's axes, with one entry for each group, the last one perhaps smaller, where ``axis`` is.
    Raises: UsageError for a scale that is not positive and finite, or whose shape does not suit; the same for zero points.
    """
    if scale is None:
        if zero_point is not None or group is not None:
            raise UsageError("A zero point or a group size needs a scale too.")
        return None
    factors = np.asarray(scale, np.float32)
    if not (np.isfinite(factors) & (factors > 0)).all():
        raise UsageError("Scales must be positive and finite in float32.")
    zeros = None if zero_point is None else _zeros(zero_point, factors.shape)
    if group is not None:
        return _grouped(factors, zeros, axis, group, shape)
    if factors.size == 1:
        return Scale(np.ascontiguousarray(factors.reshape(1)), 1, None if zeros is None else zeros.reshape(1))
    if axis is None or not -len(shape) <= axis < len(shape) or factors.shape != (shape[axis],):
        raise UsageError(
            f"A scale is one number, or one for each index of an axis; got a scale of shape {factors.shape} "
            f"with axis={axis} for an array of shape {shape}."
        )
    return Scale(np.ascontiguousarray(factors), math.prod(shape[axis % len(shape) + 1 :]), zeros)


def _zeros(zero_point: ArrayLike, shape: tuple[int, ...]) -> F32:
    zeros = np.asarray(zero_point)
    if zeros.shape != shape and zeros.size != 1:
        raise UsageError(f"There must be one zero point, or one for each scale; got shape {zeros.shape} with scales of shape {shape}.")
    return np.ascontiguousarray(np.broadcast_to(zeros.reshape(zeros.shape if zeros.shape == shape else ()), shape), np.float32)


def _grouped(factors: F32, zeros: F32 | None, axis: int | None, group: int, shape: tuple[int, ...]) -> Scale:
    if axis is None or not -len(shape) <= axis < len(shape):
        raise UsageError(f"A group size needs the axis along which groups lie; got axis={axis} for an array of shape {shape}.")
    axis %= len(shape)
    if group < 1:
        raise UsageError(f"group must be at least 1; got {group}.")
    want = (*shape[:axis], -(-shape[axis] // group), *shape[axis + 1 :])
    if factors.shape != want:
        raise UsageError(f"With groups of {group} along axis {axis} of {shape} the scale must have shape {want}; got {factors.shape}.")
    flat = None if zeros is None else zeros.reshape(-1)
    return Scale(np.ascontiguousarray(factors).reshape(-1), math.prod(shape[axis + 1 :]), flat, shape[axis], group)
