"""Scales and zero points of affine integers: from the range seen, a percentile of it, or the least squared error."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convsmith.errors import UsageError
from convsmith.formats.carrier import as_carrier
from convsmith.formats.format import Format
from convsmith.formats.limits import max_value, min_value
from convsmith.formats.rounding import MAX_AFFINE_BITS, round_array

#: Fractions of the whole range that the search for the least squared error tries.
CANDIDATES: Final = 100


class Affine(NamedTuple):
    """What `round_array` takes as ``scale`` and ``zero_point``; the number zero is exactly a code."""

    scale: NDArray[np.float32]
    zero_point: NDArray[np.int32]


def fit_min_max(x: ArrayLike, fmt: Format, *, axis: int | None = None, group: int | None = None, symmetric: bool = False) -> Affine:
    """Return the affine range that reaches from the least to the largest number, and to zero.

    One range for the tensor, for each index of ``axis``, or for each ``group`` of indices along it. A ``symmetric`` range has its
    zero point in the middle: 0 in signed formats. An empty or all-zero part has scale 1.
    Raises: UsageError for formats that are not integers of 2 to 24 bits, and for NaN or infinities.
    """
    array, parts = _parts(x, fmt, axis, group)
    return _affine(_low(array, parts), _high(array, parts), fmt, symmetric)


def fit_percentile(
    x: ArrayLike, fmt: Format, percentile: float = 99.99, *, axis: int | None = None, group: int | None = None, symmetric: bool = False
) -> Affine:
    """Return the affine range without the tails: from the ``100 - percentile``-th to the ``percentile``-th percentile.

    A ``symmetric`` range takes the percentile of magnitudes. Raises: as `fit_min_max`, and for a percentile that is not above 50.
    """
    if not 50 < percentile <= 100:
        raise UsageError(f"percentile must be above 50 and at most 100; got {percentile:g}.")
    array, parts = _parts(x, fmt, axis, group)
    if array.size == 0:
        return fit_min_max(x, fmt, axis=axis, group=group, symmetric=symmetric)
    if symmetric or fmt.symmetric:
        high = np.nanpercentile(np.abs(array), percentile, axis=parts)
        return _affine(-high, high, fmt, True)
    low, high = np.nanpercentile(array, [100 - percentile, percentile], axis=parts)
    return _affine(low, high, fmt, False)


def fit_mse(x: ArrayLike, fmt: Format, *, axis: int | None = None, group: int | None = None, symmetric: bool = False) -> Affine:
    """Return the affine range, of 100 fractions of the whole, whose rounding to nearest has the least squared error.

    Of signs (binary) it is the mean of the magnitudes, exactly.

    Raises: as `fit_min_max`.
    References: Rastegari et al. 2016, XNOR-Net, arXiv 1603.05279, equation 6.
    """
    if fmt.kind == "binary":
        size = np.abs(as_carrier(x).astype(np.float64))
        others = None if axis is None else tuple(i for i in range(size.ndim) if i != axis % size.ndim)
        scale = np.asarray(size.mean(axis=others), np.float32)
        return Affine(np.where(scale > 0, scale, np.float32(1)), np.zeros(scale.shape, np.int64))
    array, parts = _parts(x, fmt, axis, group)
    given = as_carrier(x)
    low, high = _low(array, parts), _high(array, parts)
    best = _affine(low, high, fmt, symmetric)
    least = _error(given, fmt, best, axis, group)
    for step in range(1, CANDIDATES):
        share = 1 - step / CANDIDATES
        tried = _affine(low * share, high * share, fmt, symmetric)
        error = _error(given, fmt, tried, axis, group)
        better = error < least
        least = np.where(better, error, least)
        best = Affine(np.where(better, tried.scale, best.scale), np.where(better, tried.zero_point, best.zero_point))
    return best


def _parts(x: ArrayLike, fmt: Format, axis: int | None, group: int | None) -> tuple[NDArray[np.float64], tuple[int, ...]]:
    """Return the numbers, padded with NaN to whole groups, and the axes over which a range is taken."""
    if fmt.kind != "integer" or not 2 <= fmt.bits <= MAX_AFFINE_BITS:
        raise UsageError(f"Affine ranges are for integer formats of 2 to {MAX_AFFINE_BITS} bits; got {fmt}.")
    array = as_carrier(x).astype(np.float64)
    if not np.isfinite(array).all():
        raise UsageError("A range cannot be found from numbers with NaN or infinities among them; leave those out.")
    if axis is None:
        if group is not None:
            raise UsageError("A group size needs the axis along which groups lie; give axis.")
        return array, tuple(range(array.ndim))
    if not -array.ndim <= axis < array.ndim:
        raise UsageError(f"axis={axis} is not an axis of an array of shape {array.shape}.")
    axis %= array.ndim
    if group is None:
        return array, tuple(i for i in range(array.ndim) if i != axis)
    if group < 1:
        raise UsageError(f"group must be at least 1; got {group}.")
    count = -(-array.shape[axis] // group)
    padding = [(0, count * group - array.shape[axis] if i == axis else 0) for i in range(array.ndim)]
    padded = np.pad(array, padding, constant_values=np.nan)
    return padded.reshape(*array.shape[:axis], count, group, *array.shape[axis + 1 :]), (axis + 1,)


def _low(array: NDArray[np.float64], parts: tuple[int, ...]) -> NDArray[Any]:
    return np.asarray(np.fmin.reduce(array, axis=parts, initial=0.0) if parts else np.fmin(array, 0.0))


def _high(array: NDArray[np.float64], parts: tuple[int, ...]) -> NDArray[Any]:
    return np.asarray(np.fmax.reduce(array, axis=parts, initial=0.0) if parts else np.fmax(array, 0.0))


def _affine(low: Any, high: Any, fmt: Format, symmetric: bool) -> Affine:
    least, most = min_value(fmt), max_value(fmt)
    low, high = np.minimum(low, 0.0), np.maximum(high, 0.0)
    if symmetric or fmt.symmetric:
        middle = 0.0 if fmt.signed else (most + 1) / 2
        scale = _positive(np.maximum(-low, high) / (most - middle))
        return Affine(scale, np.full(scale.shape, middle, np.int32))
    scale = _positive((high - low) / (most - least))
    zero = np.clip(np.rint(least - low / scale), least, most)
    return Affine(scale, zero.astype(np.int32))


def _positive(scale: Any) -> NDArray[np.float32]:
    """Return the scales in float32, 1 where one is zero or too small for it."""
    narrow = np.asarray(scale, np.float32)
    return np.where(narrow >= np.finfo(np.float32).tiny, narrow, np.float32(1)).astype(np.float32)


def _error(x: Any, fmt: Format, affine: Affine, axis: int | None, group: int | None) -> NDArray[Any]:
    rounded = round_array(x, fmt, scale=affine.scale, zero_point=affine.zero_point, axis=axis, group=group)
    squares = np.square(rounded.astype(np.float64) - x)
    if axis is None:
        return np.asarray(squares.sum())
    axis %= squares.ndim
    if group is None:
        return np.asarray(squares.sum(axis=tuple(i for i in range(squares.ndim) if i != axis)))
    return np.asarray(np.add.reduceat(squares, np.arange(0, squares.shape[axis], group), axis=axis))
