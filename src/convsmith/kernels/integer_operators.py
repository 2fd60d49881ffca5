"""Operators between numbers and 8-bit codes as ONNX defines them, and on codes as the compiler makes them: the plain interpretation.

``IntegerConv``, ``IntegerAdd``, ``IntegerAveragePool`` and ``LookUp`` are the compiler's own; their codes are uint8. Their meaning is that
of ``kernels.integers``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from convsmith.errors import UnsupportedError
from convsmith.kernels import integers
from convsmith.kernels.geometry import convolution_shape
from convsmith.kernels.integers import IntegerEpilogue, Middle
from convsmith.kernels.windows import Array, Windows, resolve

Inputs = Sequence[Any]
Attributes = Mapping[str, Any]


def along(values: Array, rank: int, axis: int) -> Array:
    """Return one number, or one for each index of an axis, shaped to broadcast."""
    return values if values.size == 1 else values.reshape([-1 if i == axis % rank else 1 for i in range(rank)])


def quantize_linear(inputs: Inputs, a: Attributes) -> Array:
    """Return ``saturate(round(x / scale) + zero_point)``, halves to even; codes are int8 or uint8, the default."""
    x, scale, zero = inputs[0], inputs[1], inputs[2] if len(inputs) > 2 and inputs[2] is not None else np.zeros((), np.uint8)
    if zero.dtype not in (np.uint8, np.int8):
        raise UnsupportedError(f"codes of type {zero.dtype}; allowed are uint8 and int8")
    axis, limits = a.get("axis", 1), np.iinfo(zero.dtype)
    scaled = np.rint(x.astype(np.float32) / along(scale, x.ndim, axis).astype(np.float32))
    codes = np.where(np.isnan(scaled), 0, scaled) + along(zero, x.ndim, axis).astype(np.float32)
    return np.asarray(np.clip(codes, limits.min, limits.max).astype(zero.dtype))


def dequantize_linear(inputs: Inputs, a: Attributes) -> Array:
    """Return ``(code - zero_point) * scale`` in float32."""
    codes, scale, axis = inputs[0], inputs[1], a.get("axis", 1)
    zero = inputs[2] if len(inputs) > 2 and inputs[2] is not None else np.zeros((), codes.dtype)
    whole = codes.astype(np.int64) - along(zero, codes.ndim, axis).astype(np.int64)
    return np.asarray(whole.astype(np.float32) * along(scale, codes.ndim, axis).astype(np.float32))


def epilogue(inputs: Inputs, a: Attributes, residual_nhwc: Array | None = None) -> IntegerEpilogue:
    """Return what follows the sums of an ``IntegerConv`` whose inputs are image, weights, bias, factors and residual."""
    middle = Middle(a["middle_factor"], a["middle_low"], a["middle_high"]) if a.get("middle_factor") else None
    return IntegerEpilogue(
        a["result"], inputs[2], inputs[3], a.get("zero", 0), a.get("low", 0), a.get("high", 255), residual_nhwc,
        a.get("residual_zero", 0), a.get("residual_factor", 0.0), middle,
    )  # fmt: skip


def integer_conv(inputs: Inputs, a: Attributes) -> Array:
    """Convolve codes NCHW by int8 KCRS, or multiply rows of codes by int8 weights ``(out, in)``."""
    x, w, residual = inputs[0], inputs[1], inputs[4] if len(inputs) > 4 else None
    if x.ndim == 2:
        given = [x[:, :, None, None], w[:, :, None, None], *inputs[2:4]]
        return integer_conv(given + ([residual[:, :, None, None]] if residual is not None else []), a)[:, :, 0, 0]
    shape = convolution_shape(x.shape, w.shape, a, str(x.dtype))
    e = epilogue(inputs, a, None if residual is None else residual.transpose(0, 2, 3, 1))
    return integers.convolve(x.transpose(0, 2, 3, 1), a["x_zero"], w, shape, e).transpose(0, 3, 1, 2)


def integer_add(inputs: Inputs, a: Attributes) -> Array:
    left = inputs[0], a["a_zero"], a["a_factor"]
    return integers.add(*left, inputs[1], a["b_zero"], a["b_factor"], a["zero"], a["low"], a["high"])


def pool_windows(a: Attributes, size: tuple[int, ...]) -> Windows:
    """Return the windows of an ``IntegerAveragePool``, which without ``kernel_shape`` averages the whole image."""
    return resolve(a, size, tuple(a["kernel_shape"])) if "kernel_shape" in a else resolve({}, size, size)


def integer_average_pool(inputs: Inputs, a: Attributes) -> Array:
    x, count_padding = inputs[0], bool(a.get("count_include_pad", 0))
    return integers.average_pool(x, a["x_zero"], pool_windows(a, x.shape[2:]), a["factor"], a["zero"], count_padding)


OPERATORS: Final[dict[str, Callable[[Inputs, Attributes], Array]]] = {
    "IntegerConv": integer_conv,
    "IntegerAdd": integer_add,
    "IntegerAveragePool": integer_average_pool,
    "LookUp": lambda inputs, a: inputs[1][inputs[0]],
}
"""The compiler's own operators on codes."""
