"""Convolution by its definition: one sum of products for every output. The specification of all the others."""

from __future__ import annotations

from typing import Any

import numpy as np

from convsmith.kernels.geometry import ConvolutionShape
from convsmith.kernels.windows import view

Array = np.ndarray[Any, Any]


def prepare(w_kcrs: Array, shape: ConvolutionShape) -> Array:
    """Return the weights unchanged."""
    return w_kcrs


def run(x_nchw: Array, w_kcrs: Array, shape: ConvolutionShape) -> Array:
    """Return NKHW: ``y[n, k, i, j] = sum over c, r, s of x[n, c, i stride + r dilation - pad, ...] w[k, c, r, s]``."""
    windows = view(x_nchw, shape.windows, 0.0)
    depth, breadth = shape.in_channels // shape.groups, shape.out_channels // shape.groups
    y_nkhw = np.empty(shape.output, x_nchw.dtype)
    for n, k, i, j in np.ndindex(*shape.output):
        first = k // breadth * depth
        y_nkhw[n, k, i, j] = np.sum(windows[n, first : first + depth, i, j] * w_kcrs[k])
    return y_nkhw


def workspace_bytes(shape: ConvolutionShape) -> int:
    """Return the size of the padded input."""
    w = shape.windows
    sides = [n + b + a + e for n, b, a, e in zip(shape.size, w.before, w.after, w.beyond, strict=True)]
    return shape.batch * shape.in_channels * int(np.prod(sides)) * np.dtype(shape.dtype).itemsize
