"""Rounding of whole arrays: in NumPy, and natively where the native module is built."""

from __future__ import annotations

from types import ModuleType
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convsmith.errors import UsageError
from convsmith.formats.blocks import round_blocks
from convsmith.formats.carrier import Floats, Scale, as_carrier, as_scale, check_out
from convsmith.formats.constants import Constants, constants
from convsmith.formats.format import Format
from convsmith.formats.limits import max_value, min_value
from convsmith.formats.modes import MAX_RANDOM_BITS, ROUNDINGS, Overflow, Rounding, check_modes
from convsmith.formats.native import choose, native_module, threads_by_default
from convsmith.formats.random_bits import check_key, random_words, wide_random_words
from convsmith.formats.twin import round_values

_CHUNK: Final = 1 << 18
_STOCHASTIC: Final = ROUNDINGS.index("stochastic")
#: The limits less a zero point are then float32 values.
MAX_AFFINE_BITS: Final = 24

__all__ = ["native_module", "round_array", "round_numpy", "threads_by_default"]


class _Task(NamedTuple):
    """A call whose arguments were found right."""

    array: Floats
    spec: Constants
    scale: Scale | None
    seed: int
    stream: int
    out: NDArray[Any] | None

    @property
    def carrier(self) -> type[np.float32] | type[np.float64]:
        return np.float64 if self.spec.wide else np.float32


def round_array(
    x: ArrayLike,
    fmt: Format,
    rounding: Rounding = "nearest_even",
    overflow: Overflow = "saturate",
    *,
    seed: int = 0,
    stream: int = 0,
    scale: ArrayLike | None = None,
    axis: int | None = None,
    out: NDArray[Any] | None = None,
    random_bits: int = MAX_RANDOM_BITS,
    threads: int | None = None,
    isa: str | None = None,
    zero_point: ArrayLike | None = None,
    group: int | None = None,
) -> NDArray[Any]:
    """Round an array to a format and return an array of the format's carrier; `round_scalar` says what each mode means.

    With a scale the result is ``round(x / scale) * scale``, quotient and product each rounded to float32 (to float64 where the input or
    the format is). A zero point, for integer formats, shifts the range: the integers are ``q - zero_point`` for the codes ``q``.
    ``group`` makes groups of so many indices along ``axis`` share a scale. Blocks of a block format lie along ``axis``, else the last.
    ``out=x`` works in place. float16, float64 and integers are rounded from their exact values. The random bits of an element depend on
    (seed, stream, its C-order index) only: not on ``threads``, ``isa`` or memory layout. Without the native module NumPy does the same,
    slower. ``isa`` forces "portable", "avx2" or "avx512", as the environment variable CONVSMITH_ISA does; the bits are the same.

    Shapes: ``x`` any; ``scale`` () or (x.shape[axis],), or with groups that of ``x`` with ``ceil(x.shape[axis] / group)`` at ``axis``;
    ``zero_point`` () or like ``scale``; the result like ``x``.
    Raises: UsageError for modes, scales, seeds and arrays that cannot be; UnsupportedError for an ``isa`` that is not there.
    """
    native = choose(isa)
    if fmt.element is not None:
        _refuse_scale(fmt, scale, zero_point, group)
        return round_blocks(x, fmt, rounding, overflow, seed, stream, axis, out, random_bits, native, threads)
    task = _prepare(x, fmt, rounding, overflow, seed, stream, scale, axis, out, random_bits, zero_point, group)
    if native is None:
        return _by_numpy(task)
    return _by_native(task, native.module, native.threads(threads, task.array.size), native.level)


def round_numpy(
    x: ArrayLike,
    fmt: Format,
    rounding: Rounding = "nearest_even",
    overflow: Overflow = "saturate",
    *,
    seed: int = 0,
    stream: int = 0,
    scale: ArrayLike | None = None,
    axis: int | None = None,
    out: NDArray[Any] | None = None,
    random_bits: int = MAX_RANDOM_BITS,
    zero_point: ArrayLike | None = None,
    group: int | None = None,
) -> NDArray[Any]:
    """Do in NumPy what `round_array` does: same arguments, same bits."""
    if fmt.element is not None:
        _refuse_scale(fmt, scale, zero_point, group)
        return round_blocks(x, fmt, rounding, overflow, seed, stream, axis, out, random_bits)
    return _by_numpy(_prepare(x, fmt, rounding, overflow, seed, stream, scale, axis, out, random_bits, zero_point, group))


def _refuse_scale(fmt: Format, *given: object) -> None:
    if any(value is not None for value in given):
        raise UsageError(f"{fmt} finds its own scales; leave out scale, zero_point and group.")


def _prepare(
    x: ArrayLike,
    fmt: Format,
    rounding: Rounding,
    overflow: Overflow,
    seed: int,
    stream: int,
    scale: ArrayLike | None,
    axis: int | None,
    out: NDArray[Any] | None,
    random_bits: int,
    zero_point: ArrayLike | None,
    group: int | None,
) -> _Task:
    check_modes(fmt, rounding, overflow, random_bits)
    check_key(seed, stream)
    if zero_point is not None:
        _check_zero_point(fmt, overflow, np.asarray(zero_point))
    array = as_carrier(x)
    check_out(out, array.shape, fmt)
    factors = as_scale(scale, axis, array.shape, zero_point, group)
    return _Task(array, constants(fmt, rounding, overflow, random_bits), factors, seed, stream, out)


def _check_zero_point(fmt: Format, overflow: str, zeros: NDArray[Any]) -> None:
    if fmt.kind != "integer" or overflow == "wrap" or fmt.bits > MAX_AFFINE_BITS:
        raise UsageError(
            f"A zero point is for integer formats of at most {MAX_AFFINE_BITS} bits that saturate; got {fmt} with overflow={overflow!r}."
        )
    low, high = min_value(fmt), max_value(fmt)
    if not ((zeros >= low) & (zeros <= high) & (np.rint(zeros) == zeros)).all():
        raise UsageError(f"Zero points must be codes of {fmt}, integers from {low:.0f} to {high:.0f}.")


def _by_numpy(task: _Task) -> NDArray[Any]:
    array, spec, scale = task.array, task.spec, task.scale
    flat = array.reshape(-1)
    result: NDArray[Any] = np.empty(flat.shape, task.carrier)
    quotient_type = np.float64 if spec.wide else array.dtype
    with np.errstate(all="ignore"):
        for start in range(0, flat.size, _CHUNK):
            part = flat[start : start + _CHUNK]
            words = _words(task, start, part.size)
            if scale is None:
                result[start : start + _CHUNK] = round_values(part.astype(np.float64), spec, words)
                continue
            index = scale.positions(start, start + part.size)
            divisor = scale.factors[index]
            quotient = np.divide(part, divisor, dtype=quotient_type).astype(np.float64)
            zeros = None if scale.zeros is None else scale.zeros[index].astype(np.float64)
            rounded = round_values(quotient, spec, words) if zeros is None else _shifted(quotient, spec, words, zeros)
            result[start : start + _CHUNK] = rounded * divisor
    if task.out is None:
        return result.reshape(array.shape)
    task.out[...] = result.reshape(array.shape)
    return task.out


def _shifted(x: NDArray[np.float64], spec: Constants, words: Any, zeros: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round to integers whose range is lower by a zero point each."""
    wide = 2.0**60  # beyond the range of every code less every zero point
    whole = round_values(np.clip(x, -wide, wide), spec._replace(lowest=-2 * wide, highest=2 * wide), words)
    shifted: NDArray[np.float64] = np.clip(whole, spec.lowest - zeros, spec.highest - zeros) + 0.0
    return shifted


def _words(task: _Task, start: int, count: int) -> Any:
    if task.spec.mode != _STOCHASTIC:
        return None
    draw = random_words if task.spec.random_bits <= 32 else wide_random_words
    return draw(start, count, task.seed, task.stream)


def _by_native(task: _Task, module: ModuleType, threads: int, level: str) -> NDArray[Any]:
    array, spec, out = task.array, task.spec, task.out
    direct = out is not None and out.flags.c_contiguous and (_same_memory(array, out) or not np.may_share_memory(array, out))
    result: NDArray[Any] = out if direct and out is not None else np.empty(array.shape, task.carrier)
    factors, inner, *rest = (None, 1, None) if task.scale is None else task.scale
    double = spec.double or array.dtype == np.float64
    round_flat = module.round_wide if double else module.round_f32
    round_flat(array.reshape(-1), result.reshape(-1), tuple(spec), factors, inner, task.seed, task.stream, threads, level, *rest)
    if out is None or direct:
        return result
    out[...] = result
    return out


def _same_memory(array: Floats, out: NDArray[Any]) -> bool:
    return array.ctypes.data == out.ctypes.data and array.strides == out.strides and array.dtype == out.dtype
