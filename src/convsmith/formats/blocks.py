"""Rounding to block formats: elements along an axis that share a power of two."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convsmith.errors import UsageError
from convsmith.formats.carrier import Floats, as_carrier, check_out
from convsmith.formats.constants import Constants, constants
from convsmith.formats.format import Format
from convsmith.formats.limits import largest_exponent, largest_scale_exponent, max_value, smallest_scale_exponent
from convsmith.formats.modes import ROUNDINGS, Overflow, Rounding, check_modes
from convsmith.formats.native import Native
from convsmith.formats.random_bits import check_key, random_words
from convsmith.formats.twin import round_values

#: Nonzero numbers below this, in units of the scale, round like it.
_TINY: Final = 2.0**-900


class Layout(NamedTuple):
    """Where the blocks of an array lie: ``length`` indices along the axis, neighbours ``inner`` elements apart in C order."""

    axis: int
    length: int
    inner: int


def layout(shape: tuple[int, ...], axis: int | None) -> Layout:
    """Return the layout of blocks along an axis, by default the last.

    Raises: UsageError for an axis that is not there.
    """
    if not shape:
        shape = (1,)
    asked = -1 if axis is None else axis
    if not -len(shape) <= asked < len(shape):
        raise UsageError(f"Blocks lie along an axis; got axis={axis} for an array of shape {shape}.")
    asked %= len(shape)
    return Layout(asked, shape[asked], int(np.prod(shape[asked + 1 :], dtype=np.int64)))


def shared_exponents(x: ArrayLike, fmt: Format, axis: int | None = None) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Return the exponent of each block's shared scale, and whether the block is NaN since it holds a NaN or an infinity.

    A block of zeros has the smallest scale. OCP MX 1.0, section 6.3, divides the largest power of two in the block by that in the element
    format; the rule "fit" takes the next exponent where the largest magnitude would be beyond the element's range.
    Shapes: that of ``x`` with ``ceil(x.shape[axis] / fmt.block_size)`` at ``axis``.
    """
    array = as_carrier(x)
    return _exponents(array.reshape(array.shape or (1,)), fmt, layout(array.shape, axis).axis)


def _exponents(array: Floats, fmt: Format, axis: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    assert fmt.element is not None
    size = np.abs(np.moveaxis(array, axis, -1))
    length = size.shape[-1]
    count = -(-length // fmt.block_size)
    padded = np.zeros((*size.shape[:-1], count * fmt.block_size), size.dtype)
    padded[..., :length] = size
    largest = padded.reshape(*size.shape[:-1], count, fmt.block_size).max(axis=-1)
    bad = ~np.isfinite(largest)
    fraction, exponent = np.frexp(np.where(bad, 0, largest))
    shared = exponent - 1 - largest_exponent(fmt.element)
    if fmt.rule == "fit":
        shared += fraction > np.frexp(max_value(fmt.element))[0]
    shared = np.where(largest == 0, smallest_scale_exponent(fmt), shared)
    shared = np.clip(shared, smallest_scale_exponent(fmt), largest_scale_exponent(fmt)).astype(np.int32)
    return np.moveaxis(shared, -1, axis), np.moveaxis(bad, -1, axis)


def spread(values: NDArray[Any], fmt: Format, axis: int, length: int) -> NDArray[Any]:
    """Return the blocks' values for each element along the axis."""
    return np.repeat(values, fmt.block_size, axis=axis)[(slice(None),) * axis + (slice(length),)]


def round_blocks(
    x: ArrayLike,
    fmt: Format,
    rounding: Rounding,
    overflow: Overflow,
    seed: int,
    stream: int,
    axis: int | None,
    out: NDArray[Any] | None,
    random_bits: int,
    native: Native | None = None,
    threads: int | None = None,
) -> NDArray[Any]:
    """Round an array to a block format, natively where the module is given; `round_array` says what the arguments mean."""
    element = fmt.element
    assert element is not None
    check_modes(element, rounding, overflow, random_bits)
    check_key(seed, stream)
    array = as_carrier(x)
    check_out(out, array.shape, fmt)
    where = layout(array.shape, axis)
    spec = constants(element, rounding, overflow, random_bits)
    if native is not None:
        return _by_native(array, fmt, spec, where, (seed, stream), out, native, native.threads(threads, array.size))
    scaled, exponents, bad = scale_down(array, fmt, where)
    words = random_words(0, array.size, seed, stream) if spec.mode == ROUNDINGS.index("stochastic") else None
    with np.errstate(all="ignore"):
        rounded = round_values(scaled.reshape(-1), spec, words).reshape(scaled.shape)
        result = np.ldexp(rounded, exponents).astype(np.float32)
    result[bad] = np.nan
    result = result.reshape(array.shape)
    if out is None:
        return result
    out[...] = result
    return out


def _by_native(
    array: Floats,
    fmt: Format,
    spec: Constants,
    where: Layout,
    key: tuple[int, int],
    out: NDArray[Any] | None,
    native: Native,
    threads: int,
) -> NDArray[Any]:
    assert fmt.element is not None
    place = out is not None and out.ctypes.data == array.ctypes.data and out.strides == array.strides and out.dtype == array.dtype
    direct = out is not None and out.flags.c_contiguous and (place or not np.may_share_memory(array, out))
    result: NDArray[Any] = out if direct and out is not None else np.empty(array.shape, np.float32)
    exponents = largest_exponent(fmt.element), smallest_scale_exponent(fmt), largest_scale_exponent(fmt)
    native.module.round_blocks(
        array.reshape(-1),
        result.reshape(-1),
        tuple(spec),
        fmt.block_size,
        where.length,
        where.inner,
        *exponents,
        fmt.rule == "fit",
        max_value(fmt.element),
        *key,
        threads,
        native.level,
    )
    if out is None or direct:
        return result
    out[...] = result
    return out


def scale_down(array: Floats, fmt: Format, where: Layout) -> tuple[NDArray[np.float64], NDArray[np.int32], NDArray[np.bool_]]:
    """Return the array in units of its blocks' scales, exactly as far as rounding sees it, the exponents, and where blocks are NaN."""
    shaped = array.reshape(array.shape or (1,))
    exponents, bad = (spread(v, fmt, where.axis, where.length) for v in _exponents(shaped, fmt, where.axis))
    with np.errstate(all="ignore"):
        scaled = np.ldexp(np.where(bad, 0, shaped).astype(np.float64), -exponents)
    tiny = (shaped != 0) & (np.abs(scaled) < _TINY) & ~bad
    return np.where(tiny, np.copysign(_TINY, shaped), scaled), exponents, bad
