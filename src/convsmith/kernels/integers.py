"""Convolution, addition and pooling of 8-bit codes in NumPy: the plain integer interpretation that every kernel must equal bit for bit.

A code q stands for ``(q - zero) * scale``. Sums are exact; each operation after them is rounded to float32 once, in this order, and codes
are the nearest whole numbers, halves to even.

References: Jacob et al. 2018, arXiv:1712.05877; ONNX operators QLinearConv, QuantizeLinear, DequantizeLinear.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from convsmith.kernels import im2col
from convsmith.kernels.geometry import ConvolutionShape
from convsmith.kernels.windows import Windows, view

Array = np.ndarray[Any, Any]
Result = Literal["sums", "numbers", "codes"]

RESULTS: Final[tuple[Result, ...]] = ("sums", "numbers", "codes")
"""In the order of ``IntegerResult`` in native/integer.h."""

MOST_PRODUCTS: Final = 65793
"""Products a sum may have: with more, one of 255 * 128 each might not fit 32 bits."""


@dataclass(frozen=True)
class Middle:
    """A rounding before the residual is added: to whole numbers within ``low`` to ``high``, which then count ``factor`` each."""

    factor: float
    low: int
    high: int


@dataclass(frozen=True)
class IntegerEpilogue:
    """What becomes of an exact ``sum + bias``: itself (int32), times ``factor`` a channel (float32), or that as a code (uint8).

    The code is ``zero`` plus the nearest whole number, within ``low`` to ``high``, which is how a ReLU or clip is part of it. Before it is
    made, ``(residual - residual_zero) * residual_factor`` may be added.
    """

    result: Result = "sums"
    bias: Array | None = None
    factor: Array | None = None
    zero: int = 0
    low: int = 0
    high: int = 255
    residual_nhwc: Array | None = None
    residual_zero: int = 0
    residual_factor: float = 0.0
    middle: Middle | None = None


def convolve(x_nhwc: Array, zero: int, w_kcrs: Array, shape: ConvolutionShape, epilogue: IntegerEpilogue) -> Array:
    """Return NHWK of the epilogue's type from codes of either sign; padding counts as ``zero``."""
    x_nchw = x_nhwc.transpose(0, 3, 1, 2).astype(np.float64) - zero  # float64 holds every sum exactly
    y_nkhw = im2col.run(x_nchw, im2col.prepare(w_kcrs.astype(np.float64), shape), shape)
    return finish(y_nkhw.transpose(0, 2, 3, 1).astype(np.int64), epilogue)


def finish(sums: Array, e: IntegerEpilogue) -> Array:
    """Return what becomes of whole sums whose last axis is the channels."""
    total = (sums if e.bias is None else sums + e.bias.astype(np.int64)).astype(np.int32)
    if e.result == "sums":
        return total
    assert e.factor is not None
    value: Array = total.astype(np.float32) * e.factor.astype(np.float32)
    if e.result == "numbers":
        return value
    if e.residual_nhwc is not None:
        if e.middle is not None:
            value = np.rint(np.clip(value, np.float32(e.middle.low), np.float32(e.middle.high))) * np.float32(e.middle.factor)
        value = value + numbers(e.residual_nhwc, e.residual_factor, e.residual_zero)
    return codes(value, e.zero, e.low, e.high)


def codes(value: Array, zero: int, low: int = 0, high: int = 255) -> Array:
    """Return uint8 codes: ``zero`` plus the nearest whole number, within ``low`` to ``high``; NaN becomes ``zero``."""
    known = np.where(np.isnan(value), np.float32(0), value)
    return np.asarray(np.rint(np.clip(known, np.float32(low - zero), np.float32(high - zero))) + zero).astype(np.uint8)


def quantise(x: Array, scale: float, zero: int) -> Array:
    """Return the codes nearest to ``x / scale``."""
    return codes(x.astype(np.float32) / np.float32(scale), zero)


def numbers(code: Array, scale: float, zero: int) -> Array:
    """Return float32 ``(code - zero) * scale``."""
    return np.asarray((code.astype(np.int32) - zero).astype(np.float32) * np.float32(scale))


def add(a: Array, a_zero: int, a_factor: float, b: Array, b_zero: int, b_factor: float, zero: int, low: int = 0, high: int = 255) -> Array:
    """Return codes of ``(a - a_zero) a_factor + (b - b_zero) b_factor``."""
    return codes(numbers(a, a_factor, a_zero) + numbers(b, b_factor, b_zero), zero, low, high)


def max_pool(x_nchw: Array, windows: Windows) -> Array:
    """Return the largest code of each window; padding never is."""
    return np.asarray(view(x_nchw, windows, 0).max(axis=(4, 5)))


def average_pool(x_nchw: Array, x_zero: int, windows: Windows, factor: float, zero: int, count_padding: bool = False) -> Array:
    """Return codes of ``sum(x - x_zero) * (factor / count)``, padding counted if ``count_padding``, never what ceiling mode adds."""
    total = view(x_nchw.astype(np.int64) - x_zero, windows, 0).sum(axis=(4, 5))
    ones = np.ones((1, 1, *x_nchw.shape[2:]), np.int64)
    if count_padding:
        ends = tuple(zip(windows.before, windows.after, strict=True))
        ones = np.pad(ones, ((0, 0), (0, 0), *ends), constant_values=1)
        inside = Windows(windows.kernel, windows.strides, windows.dilations, (0, 0), (0, 0), windows.beyond, windows.output)
        count = view(ones, inside, 0).sum(axis=(4, 5))
    else:
        count = view(ones, windows, 0).sum(axis=(4, 5))
    return codes(total.astype(np.float32) * (np.float32(factor) / count.astype(np.float32)), zero)
