"""Rounding of whole arrays: in NumPy, and natively where the native module is built."""

from __future__ import annotations

import importlib
import os
from types import ModuleType
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convsmith.errors import UnsupportedError, UsageError, near
from convsmith.formats.carrier import F32, Scale, as_carrier, as_scale, check_out
from convsmith.formats.constants import Constants, constants
from convsmith.formats.format import Format
from convsmith.formats.modes import MAX_RANDOM_BITS, ROUNDINGS, Overflow, Rounding, check_modes
from convsmith.formats.random_bits import check_key, random_words
from convsmith.formats.twin import round_values

_CHUNK: Final = 1 << 18
#: The native kernels hand out parts of so many elements; smaller arrays have work for one thread only.
_ONE_THREAD: Final = 1 << 16
_STOCHASTIC: Final = ROUNDINGS.index("stochastic")


def native_module() -> ModuleType | None:
    """Return ``convsmith._native``, or None where it was not built."""
    try:
        return importlib.import_module("convsmith._native")
    except ImportError:
        return None


def threads_by_default() -> int:
    """Return how many threads rounding uses: CONVSMITH_THREADS, else OMP_NUM_THREADS, else the processors this process may use."""
    for name in ("CONVSMITH_THREADS", "OMP_NUM_THREADS"):
        text = os.environ.get(name, "")
        if text.isdigit() and int(text) > 0:
            return int(text)
    return len(os.sched_getaffinity(0))


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
    out: F32 | None = None,
    random_bits: int = MAX_RANDOM_BITS,
    threads: int | None = None,
    isa: str | None = None,
) -> F32:
    """Round an array to a format and return float32; `round_scalar` says what each mode means.

    With a scale the result is ``round(x / scale) * scale``, quotient and product each rounded to float32 (the quotient of a float64
    input to float64). ``out=x`` works in place. float16, float64 and integers are rounded from their exact values, float64 and wide
    integers at the speed of NumPy. The random bits of an element depend on (seed, stream, its C-order index) only: not on ``threads``,
    ``isa`` or memory layout. Without the native module NumPy does the same, slower.
    ``isa`` forces "portable", "avx2" or "avx512", as the environment variable CONVSMITH_ISA does; the bits are the same.

    Shapes: ``x`` any; ``scale`` () or (x.shape[axis],); the result like ``x``.
    Raises: UsageError for modes, scales, seeds and arrays that cannot be; UnsupportedError for an ``isa`` that is not there.
    """
    native = native_module()
    if native is None and isa is not None:
        raise UnsupportedError(
            f"isa={isa!r} asks for the native module convsmith._native, which is not built here; install with a C++ compiler."
        )
    array, spec, factors = _prepare(x, fmt, rounding, overflow, seed, stream, scale, axis, out, random_bits)
    if native is None or array.dtype != np.float32:
        return _by_numpy(array, spec, factors, seed, stream, out)
    if threads is not None and threads < 1:
        raise UsageError(f"threads must be at least 1; got {threads}.")
    if threads is None:
        threads = threads_by_default() if array.size > _ONE_THREAD else 1
    return _by_native(native, array, spec, factors, seed, stream, out, threads, choose_level(native, isa))


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
    out: F32 | None = None,
    random_bits: int = MAX_RANDOM_BITS,
) -> F32:
    """Do in NumPy what `round_array` does: same arguments, same bits."""
    array, spec, factors = _prepare(x, fmt, rounding, overflow, seed, stream, scale, axis, out, random_bits)
    return _by_numpy(array, spec, factors, seed, stream, out)


def _prepare(
    x: ArrayLike,
    fmt: Format,
    rounding: Rounding,
    overflow: Overflow,
    seed: int,
    stream: int,
    scale: ArrayLike | None,
    axis: int | None,
    out: F32 | None,
    random_bits: int,
) -> tuple[NDArray[np.float32] | NDArray[np.float64], Constants, Scale | None]:
    check_modes(fmt, rounding, overflow, random_bits)
    check_key(seed, stream)
    array = as_carrier(x)
    check_out(out, array.shape)
    return array, constants(fmt, rounding, overflow, random_bits), as_scale(scale, axis, array.shape)


def _by_numpy(
    array: NDArray[np.float32] | NDArray[np.float64], spec: Constants, scale: Scale | None, seed: int, stream: int, out: F32 | None
) -> F32:
    flat = array.reshape(-1)
    result = np.empty(flat.shape, np.float32)
    with np.errstate(all="ignore"):
        for start in range(0, flat.size, _CHUNK):
            part = flat[start : start + _CHUNK]
            words = random_words(start, part.size, seed, stream) if spec.mode == _STOCHASTIC else None
            if scale is None:
                result[start : start + _CHUNK] = round_values(part.astype(np.float64), spec, words)
                continue
            divisor = scale.factors[np.arange(start, start + part.size) // scale.inner % scale.factors.size]
            quotient = (part / divisor).astype(np.float64)
            result[start : start + _CHUNK] = round_values(quotient, spec, words) * divisor
    if out is None:
        return result.reshape(array.shape)
    out[...] = result.reshape(array.shape)
    return out


def _by_native(
    native: ModuleType,
    array: NDArray[np.float32] | NDArray[np.float64],
    spec: Constants,
    scale: Scale | None,
    seed: int,
    stream: int,
    out: F32 | None,
    threads: int,
    level: str,
) -> F32:
    direct = out is not None and out.flags.c_contiguous and (_same_memory(array, out) or not np.may_share_memory(array, out))
    result: F32 = out if direct and out is not None else np.empty(array.shape, np.float32)
    factors, inner = (None, 1) if scale is None else scale
    native.round_f32(array.reshape(-1), result.reshape(-1), tuple(spec), factors, inner, seed, stream, threads, level)
    if out is None or direct:
        return result
    out[...] = result
    return out


def _same_memory(array: NDArray[np.float32] | NDArray[np.float64], out: F32) -> bool:
    return array.ctypes.data == out.ctypes.data and array.strides == out.strides


def choose_level(native: ModuleType, isa: str | None) -> str:
    """Return the instruction set to use: the argument, else CONVSMITH_ISA, else the best that this processor has."""
    levels: list[str] = native.levels()
    name = isa if isa is not None else os.environ.get("CONVSMITH_ISA") or levels[-1]
    if name not in levels:
        raise UnsupportedError(f"No instruction set {name!r} here.{near(name, levels)} This processor and build have: {', '.join(levels)}.")
    return name
