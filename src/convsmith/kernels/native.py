"""The native convolution algorithms on arrays: sizes, prepared weights, scratch memory and what follows the sum."""

from __future__ import annotations

import importlib
import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np

from convsmith.errors import UnsupportedError, UsageError, near
from convsmith.kernels.geometry import ConvolutionShape
from convsmith.kernels.machine import instruction_set, instruction_sets, processor_count

Array = np.ndarray[Any, Any]

ACTIVATIONS: Final = ("none", "relu", "clip", "silu", "hard_swish", "hard_sigmoid", "sigmoid")
"""In the order of ``Activation`` in native/convolution.h."""

ALIGNMENT: Final = 64

HUGE_PAGE: Final = 2 << 20
"""Bytes of a page with which a processor looks up addresses less often."""


@dataclass(frozen=True)
class Epilogue:
    """What becomes of a sum before it is stored: ``activation(sum + bias + residual)``; ``low`` and ``high`` belong to ``clip``."""

    bias: Array | None = None
    residual_nhwc: Array | None = None
    activation: str = "none"
    low: float = 0.0
    high: float = 6.0


@dataclass(frozen=True)
class Prepared:
    """Weights in the layout of one algorithm at one instruction set."""

    level: str
    values: Array


def aligned_bytes(count: int) -> Array:
    """Return uninitialised bytes beginning at a multiple of 64; many of them in huge pages, where the system has them."""
    unit = HUGE_PAGE if count >= HUGE_PAGE // 2 and hasattr(mmap, "MADV_HUGEPAGE") else ALIGNMENT
    if unit == ALIGNMENT:
        raw = np.empty(count + unit, np.uint8)
    else:
        memory = mmap.mmap(-1, -(-count // unit) * unit + unit)
        memory.madvise(mmap.MADV_HUGEPAGE)
        raw = np.frombuffer(memory, np.uint8)
    start = -raw.ctypes.data % unit
    return raw[start : start + count]


def aligned_floats(count: int) -> Array:
    """Return uninitialised float32 numbers beginning at a multiple of 64 bytes."""
    return aligned_bytes(4 * count).view(np.float32)


def float_bytes(array: Array) -> Array:
    """Return the bytes of an array as float32, filled up with zeros."""
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    whole = np.zeros(-(-flat.size // 4) * 4, np.uint8)
    whole[: flat.size] = flat
    return whole.view(np.float32)


def sizes(shape: ConvolutionShape, x_pitch: int | None = None, y_pitch: int | None = None) -> list[int]:
    """Return the fields of ``Convolution`` in native/convolution.h; pitches are floats from one pixel to the next."""
    w = shape.windows
    return [
        shape.batch, shape.in_channels, *shape.size, shape.out_channels, *w.kernel, *w.strides, *w.dilations, *w.before,
        *(a + e for a, e in zip(w.after, w.beyond, strict=True)), shape.groups, *w.output,
        x_pitch or shape.in_channels, y_pitch or shape.out_channels,
    ]  # fmt: skip


@cache
def names(level: str) -> tuple[str, ...]:
    """Return the algorithms of one instruction set; none where the native module or the level is missing."""
    if level not in instruction_sets():
        return ()
    return tuple(importlib.import_module("convsmith._native").convolution_names(level))


def supports(name: str, shape: ConvolutionShape) -> bool:
    """Tell whether the algorithm takes float32 convolutions of these sizes at the instruction set in use."""
    level = instruction_set()
    if shape.dtype != "float32" or name not in names(level) or 0 in shape.output:
        return False
    return bool(importlib.import_module("convsmith._native").convolution_supports(level, name, sizes(shape)))


def prepare(name: str, w_kcrs: Array, shape: ConvolutionShape, level: str | None = None) -> Prepared:
    """Return the weights in the algorithm's own layout."""
    native, level = importlib.import_module("convsmith._native"), level or instruction_set()
    values = aligned_floats(native.convolution_prepared_floats(level, name, sizes(shape)))
    native.convolution_prepare(level, name, sizes(shape), np.ascontiguousarray(w_kcrs, np.float32).reshape(-1), values)
    return Prepared(level, values)


def prepared_floats(name: str, shape: ConvolutionShape) -> int:
    """Return the size of the weights in the algorithm's own layout."""
    native = importlib.import_module("convsmith._native")
    return int(native.convolution_prepared_floats(instruction_set(), name, sizes(shape)))


def workspace_bytes(name: str, shape: ConvolutionShape, threads: int | None = None) -> int:
    """Return the bytes of scratch memory that ``threads`` threads (by default one a processor) need."""
    return workspace_bytes_of(name, sizes(shape), threads or processor_count())


def workspace_bytes_of(name: str, numbers: Sequence[int], threads: int) -> int:
    """Return the bytes of scratch memory of a convolution given by its ``sizes``."""
    native = importlib.import_module("convsmith._native")
    return int(native.convolution_workspace_bytes(instruction_set(), name, list(numbers), threads))


@cache
def second_cache() -> int:
    """Return the bytes of one processor's second-level cache, as the system tells them."""
    return int(importlib.import_module("convsmith._native").second_cache())


def run_nhwc(
    name: str,
    x_nhwc: Array,
    prepared: Prepared,
    shape: ConvolutionShape,
    epilogue: Epilogue | None = None,
    *,
    out_nhwk: Array | None = None,
    workspace: Array | None = None,
    threads: int | None = None,
) -> Array:
    """Convolve an NHWC image and return NHWK.

    ``x_nhwc``, ``out_nhwk`` and the residual may be slices of wider tensors along the channels: a layer can write its part of a
    concatenation in place. ``workspace`` (float32, 64-byte aligned) saves the allocation of scratch memory.

    Raises: ``UsageError`` for arrays of another type, shape or layout, or an unknown activation.
    """
    e, threads = epilogue or Epilogue(), threads or processor_count()
    if e.activation not in ACTIVATIONS:
        raise UsageError(f"no activation {e.activation!r}; there are {', '.join(ACTIVATIONS)}.{near(e.activation, ACTIVATIONS)}")
    batch, channels, *output = shape.output
    output_shape = (batch, *output, channels)
    y = np.empty(output_shape, np.float32) if out_nhwk is None else out_nhwk
    x_flat, x_pitch = flat_pixels("x_nhwc", x_nhwc, (shape.batch, *shape.size, shape.in_channels))
    y_flat, y_pitch = flat_pixels("out_nhwk", y, output_shape)
    residual, residual_pitch = (None, 0) if e.residual_nhwc is None else flat_pixels("residual_nhwc", e.residual_nhwc, output_shape)
    bias = None if e.bias is None else np.ascontiguousarray(e.bias, np.float32)
    if bias is not None and bias.shape != (channels,):
        raise UsageError(f"bias has shape {bias.shape}, must be ({channels},)")
    native, numbers = importlib.import_module("convsmith._native"), sizes(shape, x_pitch, y_pitch)
    if workspace is None:
        workspace = aligned_floats(-(-native.convolution_workspace_bytes(prepared.level, name, numbers, threads) // 4))
    native.convolve(
        prepared.level, name, numbers, x_flat, prepared.values, y_flat, bias, residual, residual_pitch,
        ACTIVATIONS.index(e.activation), e.low, e.high, workspace, threads,
    )  # fmt: skip
    return y


def run_nchw(name: str, x_nchw: Array, prepared: Prepared, shape: ConvolutionShape) -> Array:
    """Convolve an NCHW image and return NKHW: the layout is changed before and after."""
    if not supports(name, shape):
        raise UnsupportedError(f"algorithm {name!r} does not support this convolution")
    y_nhwk = run_nhwc(name, np.ascontiguousarray(x_nchw.transpose(0, 2, 3, 1)), prepared, shape)
    return np.ascontiguousarray(y_nhwk.transpose(0, 3, 1, 2))


def flat_pixels(what: str, array: Array, shape: Sequence[int], dtype: str = "float32") -> tuple[Array, int]:
    """Return one axis of elements from the first to the last channel of the array, and the elements from pixel to pixel.

    Raises: ``UsageError`` unless the array has that type and shape, with adjacent channels and evenly spaced pixels.
    """
    if array.dtype != dtype or array.shape != tuple(shape):
        raise UsageError(f"{what} is {array.dtype} {array.shape}, must be {dtype} {tuple(shape)}")
    n, h, w, c = array.shape
    if array.flags.c_contiguous:
        return array.reshape(-1), c
    size = array.itemsize
    strides = [stride // size for stride in array.strides]
    pitch = strides[2] if w > 1 else strides[1] if h > 1 else strides[0]
    even = all(count == 1 or stride == step * pitch for count, stride, step in zip((n, h, w), strides, (h * w, w, 1), strict=False))
    if not even or (c > 1 and array.strides[3] != size) or pitch < c:
        raise UsageError(f"{what} has strides {array.strides}; only its channels may be a slice of a wider NHWC tensor")
    return np.lib.stride_tricks.as_strided(array, ((n * h * w - 1) * pitch + c,), (size,)), pitch
