"""The bfloat16 convolution in NumPy, step by step as the processor's VDPBF16PS adds: what ``gemm_bfloat16`` must equal bit for bit.

Operands are rounded to bfloat16, to nearest and halves to even. The products of a window lie in the order row, column, channel of the
kernel, filled up with one zero to an even number; of each pair the second is added first. Each addition is a fused multiply-add: the exact
product (16 significant bits) and the float32 sum so far, rounded once to float32, to nearest and halves to even. Operands and results below
the smallest normal float32, 2^-126, count as zero with their sign. Bias, residual and activation follow in float32 as for every algorithm.

References: Intel 64 and IA-32 Architectures Software Developer's Manual, VCVTNEPS2BF16 and VDPBF16PS.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from convsmith.kernels import direct
from convsmith.kernels.geometry import ConvolutionShape
from convsmith.kernels.windows import view

Array = np.ndarray[Any, Any]

TINY = float(np.finfo(np.float32).tiny)


def flushed(x: Array) -> Array:
    """Return numbers below 2^-126 in magnitude as zeros of their sign."""
    return np.where(np.abs(x) < TINY, np.copysign(np.zeros_like(x), x), x)


def rounded(x: Array) -> Array:
    """Return float32 numbers rounded to bfloat16, as float32; NaN stays NaN, numbers beyond the largest become infinite."""
    bits = flushed(np.ascontiguousarray(x, np.float32)).view(np.uint32)
    upper = ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)).view(np.float32)
    return np.where(np.isnan(x), np.float32(np.nan), upper)


def prepare(w_kcrs: Array, shape: ConvolutionShape) -> Array:
    """Return the rounded weights as ``(groups, products, out channels / groups)``, products in the order of the sums."""
    k, c, r, s = w_kcrs.shape
    ordered = rounded(w_kcrs).transpose(2, 3, 1, 0).reshape(r * s * c, shape.groups, k // shape.groups)
    return np.ascontiguousarray(ordered.transpose(1, 0, 2))


def run(x_nchw: Array, w_gpk: Array, shape: ConvolutionShape) -> Array:
    """Return NKHW.

    The sum of a product and a float32 number is rounded to float64 on its way to float32, which can differ from rounding once only
    where both are far apart and within 2^-53 of a tie.
    """
    windows = view(rounded(x_nchw), shape.windows, 0.0)
    n, depth = shape.batch, shape.in_channels // shape.groups
    grouped = windows.reshape(n, shape.groups, depth, *windows.shape[2:])
    rows = grouped.transpose(1, 0, 3, 4, 5, 6, 2).reshape(shape.groups, -1, shape.products)
    sums = np.zeros((shape.groups, rows.shape[1], w_gpk.shape[2]), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for pair in range(0, shape.products, 2):
            for place in (pair + 1, pair):
                if place < shape.products:
                    product = rows[:, :, place, None].astype(np.float64) * w_gpk[:, None, place]
                    sums = flushed((product + sums).astype(np.float32))
    y = sums.reshape(shape.groups, n, *shape.windows.output, -1)
    return np.ascontiguousarray(y.transpose(1, 0, 4, 2, 3)).reshape(shape.output)


def workspace_bytes(shape: ConvolutionShape) -> int:
    """Return the size of the padded input and of all windows."""
    rows = shape.batch * shape.groups * int(np.prod(shape.windows.output))
    return direct.workspace_bytes(shape) + rows * shape.products * 4
