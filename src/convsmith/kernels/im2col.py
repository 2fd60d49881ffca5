"""Convolution as one matrix product a group: every window becomes a column.

References: Chellapilla, Puri, Simard 2006, High Performance Convolutional Neural Networks for Document Processing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from convsmith.kernels import direct
from convsmith.kernels.geometry import ConvolutionShape
from convsmith.kernels.windows import view

Array = np.ndarray[Any, Any]


def prepare(w_kcrs: Array, shape: ConvolutionShape) -> Array:
    """Return the weights as ``(groups, out channels / groups, products)``."""
    return np.ascontiguousarray(w_kcrs.reshape(shape.groups, shape.out_channels // shape.groups, shape.products))


def run(x_nchw: Array, w_gkp: Array, shape: ConvolutionShape) -> Array:
    """Return NKHW."""
    windows = view(x_nchw, shape.windows, 0.0)
    n, depth, pixels = shape.batch, shape.in_channels // shape.groups, int(np.prod(shape.windows.output))
    grouped = windows.reshape(n, shape.groups, depth, *windows.shape[2:])
    columns = grouped.transpose(0, 1, 2, 5, 6, 3, 4).reshape(n, shape.groups, shape.products, pixels)
    y_gkp: Array = np.matmul(w_gkp, columns)
    return y_gkp.reshape(shape.output)


def workspace_bytes(shape: ConvolutionShape) -> int:
    """Return the size of the padded input and of all columns."""
    columns = shape.batch * shape.groups * shape.products * int(np.prod(shape.windows.output))
    return direct.workspace_bytes(shape) + columns * np.dtype(shape.dtype).itemsize
