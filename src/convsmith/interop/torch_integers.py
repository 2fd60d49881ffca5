"""Operators between numbers and 8-bit codes, and on codes, as torch functions: bit for bit those of ``kernels.integer_operators``.

Sums of codes are made in float64, which holds every one of them exactly; what follows them is float32, operation by operation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from convsmith.errors import UnsupportedError
from convsmith.kernels.integer_operators import pool_windows

Inputs = Sequence[Any]
Attributes = Mapping[str, Any]

CODES: Final = {torch.uint8: (0, 255), torch.int8: (-128, 127)}


def given(value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else torch.from_numpy(np.array(value))


def along(values: Tensor, rank: int, axis: int) -> Tensor:
    """Return one number, or one for each index of an axis, shaped to broadcast."""
    return values if values.numel() == 1 else values.reshape([-1 if i == axis % rank else 1 for i in range(rank)])


def quantize_linear(inputs: Inputs, a: Attributes) -> Tensor:
    x, scale = given(inputs[0]), given(inputs[1])
    zero = given(inputs[2]) if len(inputs) > 2 and inputs[2] is not None else torch.zeros((), dtype=torch.uint8)
    if zero.dtype not in CODES:
        raise UnsupportedError(f"codes of type {zero.dtype}; allowed are uint8 and int8")
    axis, (low, high) = a.get("axis", 1), CODES[zero.dtype]
    scaled = torch.round(x.float() / along(scale, x.dim(), axis).float())
    codes = torch.nan_to_num(scaled, nan=0.0, posinf=torch.inf, neginf=-torch.inf) + along(zero, x.dim(), axis).float()
    return codes.clamp(low, high).to(zero.dtype)


def dequantize_linear(inputs: Inputs, a: Attributes) -> Tensor:
    codes, scale, axis = given(inputs[0]), given(inputs[1]), a.get("axis", 1)
    whole = codes.long()
    if len(inputs) > 2 and inputs[2] is not None:
        whole = whole - along(given(inputs[2]), codes.dim(), axis).long()
    return whole.float() * along(scale, codes.dim(), axis).float()


def integer_conv(inputs: Inputs, a: Attributes) -> Tensor:
    """Convolve codes, or multiply rows of codes by weights ``(out, in)``; sums are exact."""
    x, w = given(inputs[0]), given(inputs[1])
    if len(inputs) > 4 and inputs[4] is not None:
        raise UnsupportedError("a residual inside of an integer convolution in torch; take the graph before it is fused")
    shifted = x.double() - a["x_zero"]
    if x.dim() == 2:
        sums = shifted @ w.double().t()
    else:
        rank = x.dim() - 2
        pads = list(a.get("pads", (0,) * 2 * rank))
        amounts = [n for axis in reversed(range(rank)) for n in (pads[axis], pads[rank + axis])]
        strides, dilations = list(a.get("strides", (1,) * rank)), list(a.get("dilations", (1,) * rank))
        sums = F.conv2d(F.pad(shifted, amounts), w.double(), None, strides, 0, dilations, a.get("group", 1))
    return finish(sums, inputs, a)


def finish(sums: Tensor, inputs: Inputs, a: Attributes) -> Tensor:
    """Return what becomes of whole sums whose second axis is the channels."""
    bias, factor = (inputs[index] if len(inputs) > index else None for index in (2, 3))
    total = (sums.long() if bias is None else sums.long() + along(given(bias), sums.dim(), 1).long()).to(torch.int32)
    if a["result"] == "sums":
        return total
    value = total.float() * along(given(factor).float(), sums.dim(), 1)
    return value if a["result"] == "numbers" else codes(value, a.get("zero", 0), a.get("low", 0), a.get("high", 255))


def codes(value: Tensor, zero: int, low: int = 0, high: int = 255) -> Tensor:
    """Return uint8 codes: ``zero`` plus the nearest whole number, within ``low`` to ``high``; NaN becomes ``zero``."""
    return (torch.round(value.nan_to_num(nan=0.0).clamp(low - zero, high - zero)) + zero).to(torch.uint8)


def numbers(code: Tensor, factor: float, zero: int) -> Tensor:
    return (code.int() - zero).float() * np.float32(factor).item()


def integer_add(inputs: Inputs, a: Attributes) -> Tensor:
    value = numbers(inputs[0], a["a_factor"], a["a_zero"]) + numbers(inputs[1], a["b_factor"], a["b_zero"])
    return codes(value, a["zero"], a["low"], a["high"])


def integer_average_pool(inputs: Inputs, a: Attributes) -> Tensor:
    x: Tensor = inputs[0]
    windows = pool_windows(a, tuple(x.shape[2:]))
    (top, left), (bottom, right) = windows.before, (n + more for n, more in zip(windows.after, windows.beyond, strict=True))
    kernel, strides, area = list(windows.kernel), list(windows.strides), windows.kernel[0] * windows.kernel[1]

    def summed(values: Tensor) -> Tensor:
        return torch.round(F.avg_pool2d(values, kernel, strides) * area)

    total = summed(F.pad(x.double() - a["x_zero"], (left, right, top, bottom))).float()
    ones = torch.ones_like(x[:1, :1], dtype=torch.float64)
    if a.get("count_include_pad", 0):
        ends = windows.after
        ones = F.pad(F.pad(ones, (left, ends[1], top, ends[0]), value=1.0), (0, windows.beyond[1], 0, windows.beyond[0]))
    else:
        ones = F.pad(ones, (left, right, top, bottom))
    return codes(total * (torch.tensor(np.float32(a["factor"])) / summed(ones).float()), a["zero"])


OPERATORS: Final[dict[str, Callable[[Inputs, Attributes], Tensor]]] = {
    "QuantizeLinear": quantize_linear,
    "DequantizeLinear": dequantize_linear,
    "IntegerConv": integer_conv,
    "IntegerAdd": integer_add,
    "IntegerAveragePool": integer_average_pool,
    "LookUp": lambda inputs, a: given(inputs[1])[given(inputs[0]).long()],
}
