"""Native gradients of convolution weights: sums over pixels, directly or by Winograd's algorithm."""

from __future__ import annotations

import importlib
from typing import Any, Final

import numpy as np

from convsmith.kernels.geometry import ConvolutionShape
from convsmith.kernels.machine import instruction_set, processor_count
from convsmith.kernels.native import aligned_floats, flat_pixels, sizes

Array = np.ndarray[Any, Any]

ACCURACY: Final[dict[str, float]] = {"loops": 2e-6, "pixels": 2e-6, "winograd_3x3_4x4": 2e-5, "winograd_5x5_4x4": 5e-5}
"""The largest error relative to the largest gradient, on layers with inputs after a ReLU and normal gradients (tested)."""


def names_for(shape: ConvolutionShape, accuracy: float, level: str | None = None) -> list[str]:
    """Return the ways that take a float32 convolution and are as accurate as asked for, the one that is usually quickest last."""
    native, level = importlib.import_module("convsmith._native"), level or instruction_set()
    return [
        name
        for name in native.gradient_names(level)
        if ACCURACY[name] <= accuracy and 0 not in shape.output and native.gradient_supports(level, name, sizes(shape))
    ]


def weight_gradient(
    name: str,
    x_nhwc: Array,
    dy_nhwk: Array,
    shape: ConvolutionShape,
    *,
    level: str | None = None,
    out_kcrs: Array | None = None,
    workspace: Array | None = None,
    threads: int | None = None,
) -> Array:
    """Return ``dw[k, c, r, s]``, the sum over pixels of the image at the tap times the output's gradient.

    Raises: ``UsageError`` for arrays of another type, shape or layout; see ``native.run_nhwc``.
    """
    native, level, threads = importlib.import_module("convsmith._native"), level or instruction_set(), threads or processor_count()
    batch, outputs, *output = shape.output
    x, x_pitch = flat_pixels("x_nhwc", x_nhwc, (shape.batch, *shape.size, shape.in_channels))
    dy, dy_pitch = flat_pixels("dy_nhwk", dy_nhwk, (batch, *output, outputs))
    numbers = sizes(shape, x_pitch, dy_pitch)
    dw = np.empty((outputs, shape.in_channels // shape.groups, *shape.windows.kernel), np.float32) if out_kcrs is None else out_kcrs
    if workspace is None:
        workspace = aligned_floats(native.gradient_workspace_bytes(level, name, numbers, threads) // 4)
    native.weight_gradient(level, name, numbers, x, dy, dw.reshape(-1), workspace, threads)
    return dw
