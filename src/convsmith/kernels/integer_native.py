"""The native convolutions of 8-bit codes on arrays; exact sums, so that every instruction set gives the same bits."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any, Final

import numpy as np

from convsmith.errors import UnsupportedError, UsageError, near
from convsmith.kernels.geometry import ConvolutionShape
from convsmith.kernels.integers import RESULTS, IntegerEpilogue
from convsmith.kernels.machine import instruction_set, instruction_sets, processor_count
from convsmith.kernels.native import ALIGNMENT, Prepared, aligned_bytes, flat_pixels, sizes

Array = np.ndarray[Any, Any]

TYPES: Final = {"sums": np.int32, "numbers": np.float32, "codes": np.uint8}


@cache
def names(level: str) -> tuple[str, ...]:
    """Return the algorithms on codes of one instruction set; none where the native module or the level is missing."""
    if level not in instruction_sets():
        return ()
    return tuple(importlib.import_module("convsmith._native").integer_names(level))


def supports(name: str, shape: ConvolutionShape) -> bool:
    """Tell whether the algorithm takes convolutions of uint8 or int8 codes of these sizes at the instruction set in use."""
    level = instruction_set()
    if shape.dtype not in ("uint8", "int8") or name not in names(level) or 0 in shape.output:
        return False
    return bool(importlib.import_module("convsmith._native").integer_supports(level, name, sizes(shape)))


def prepare(name: str, w_kcrs: Array, shape: ConvolutionShape, level: str | None = None) -> Prepared:
    """Return int8 weights in the algorithm's own layout; ``UsageError`` for weights of another type."""
    if w_kcrs.dtype != np.int8:
        raise UsageError(f"the weights are {w_kcrs.dtype}, must be int8: scale them by channel and round")
    native, level = importlib.import_module("convsmith._native"), level or instruction_set()
    values = aligned_bytes(-(-native.integer_prepared_bytes(level, name, sizes(shape)) // ALIGNMENT) * ALIGNMENT)
    native.integer_prepare(level, name, sizes(shape), np.ascontiguousarray(w_kcrs).reshape(-1), values)
    return Prepared(level, values)


def workspace_bytes(name: str, shape: ConvolutionShape, threads: int | None = None) -> int:
    """Return the bytes of scratch memory that ``threads`` threads (by default one a processor) need."""
    native = importlib.import_module("convsmith._native")
    return int(native.integer_workspace_bytes(instruction_set(), name, sizes(shape), threads or processor_count()))


def run_nhwc(
    name: str,
    x_nhwc: Array,
    prepared: Prepared,
    shape: ConvolutionShape,
    epilogue: IntegerEpilogue | None = None,
    *,
    zero: int = 0,
    out_nhwk: Array | None = None,
    workspace: Array | None = None,
    threads: int | None = None,
) -> Array:
    """Convolve an NHWC image of codes, uint8 or int8 with zero point ``zero``, and return NHWK of the epilogue's type.

    ``x_nhwc``, ``out_nhwk`` and the residual may be slices of wider tensors along the channels.

    Raises: ``UsageError`` for arrays of another type, shape or layout, or zero points that are no codes.
    """
    e, threads = epilogue or IntegerEpilogue(), threads or processor_count()
    batch, channels, *output = shape.output
    output_shape, kind = (batch, *output, channels), checked_result(e)
    y = np.empty(output_shape, kind) if out_nhwk is None else out_nhwk
    x_flat, x_pitch = flat_pixels("x_nhwc", x_nhwc, (shape.batch, *shape.size, shape.in_channels), shape.dtype)
    y_flat, y_pitch = flat_pixels("out_nhwk", y, output_shape, np.dtype(kind).name)
    residual, residual_pitch = (None, 0) if e.residual_nhwc is None else flat_pixels("residual", e.residual_nhwc, output_shape, "uint8")
    check_codes(e, zero, shape.dtype)
    native, numbers = importlib.import_module("convsmith._native"), sizes(shape, x_pitch, y_pitch)
    if workspace is None:
        workspace = aligned_bytes(native.integer_workspace_bytes(prepared.level, name, numbers, threads))
    middle = (0.0, 0, 0) if e.middle is None else (e.middle.factor, e.middle.low, e.middle.high)
    native.integer_convolve(
        prepared.level, name, numbers, x_flat.view(np.uint8), zero, shape.dtype == "int8", prepared.values, y_flat.view(np.uint8),
        RESULTS.index(e.result), channel_array("bias", e.bias, np.int32, channels), channel_array("factor", e.factor, np.float32, channels),
        [e.zero, e.low, e.high, e.residual_zero, *middle[1:]], residual, residual_pitch, [e.residual_factor, middle[0]], workspace, threads,
    )  # fmt: skip
    return y


def run_nchw(name: str, x_nchw: Array, prepared: Prepared, shape: ConvolutionShape) -> Array:
    """Return the exact int32 sums NKHW of an NCHW image of codes whose zero point is 0, as ONNX's ConvInteger."""
    if not supports(name, shape):
        raise UnsupportedError(f"algorithm {name!r} does not support this convolution")
    y_nhwk = run_nhwc(name, np.ascontiguousarray(x_nchw.transpose(0, 2, 3, 1)), prepared, shape)
    return np.ascontiguousarray(y_nhwk.transpose(0, 3, 1, 2))


def checked_result(e: IntegerEpilogue) -> Any:
    """Return the type of the result; ``UsageError`` for an unknown one, or one that lacks its factors."""
    if e.result not in RESULTS:
        raise UsageError(f"no result {e.result!r}; there are {', '.join(RESULTS)}.{near(e.result, RESULTS)}")
    if e.result != "sums" and e.factor is None:
        raise UsageError(f"result {e.result!r} needs factor, a float32 number for each output channel")
    return TYPES[e.result]


def check_codes(e: IntegerEpilogue, zero: int, dtype: str) -> None:
    limits = np.iinfo(dtype)
    if not limits.min <= zero <= limits.max:
        raise UsageError(f"zero is {zero}, which is no {dtype}")
    if not 0 <= e.low <= e.high <= 255 or not 0 <= e.zero <= 255 or not 0 <= e.residual_zero <= 255:
        raise UsageError(f"zero {e.zero}, low {e.low}, high {e.high} and residual_zero {e.residual_zero} must be codes, 0 to 255, in order")


def channel_array(what: str, values: Array | None, dtype: Any, channels: int) -> Array | None:
    """Return one number a channel, contiguous; ``UsageError`` for another type or count."""
    if values is None:
        return None
    if values.dtype != dtype or values.shape != (channels,):
        raise UsageError(f"{what} is {values.dtype} {values.shape}, must be {np.dtype(dtype).name} ({channels},)")
    return np.ascontiguousarray(values)
