"""Convolutions whose every multiply and add is rounded: forward, and both products of the backward pass."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convsmith.errors import UsageError
from convsmith.kernels.arithmetic import Arithmetic
from convsmith.kernels.geometry import ConvolutionShape
from convsmith.kernels.rounded import check_operand, compute
from convsmith.kernels.rounded_tables import forward, images_last
from convsmith.kernels.rounded_tables import input_gradient as input_tables
from convsmith.kernels.rounded_tables import weight_gradient as weight_tables

F32 = NDArray[np.float32]


def convolve(
    x_nchw: F32,
    w_kcrs: F32,
    shape: ConvolutionShape,
    arithmetic: Arithmetic,
    *,
    seed: int = 0,
    stream: int = 0,
    out: F32 | None = None,
    threads: int | None = None,
    isa: str | None = None,
) -> F32:
    """Return ``y[n, k, p, q]``, the sum over (c, r, s) of ``w[k, c, r, s] x[n, c, p stride + r dilation - pad, q ...]``.

    The terms are in C order of (c, r, s), c within the group; term t of `matmul` is number ``(c R + r) S + s`` here. Padding counts as
    zeros, so its terms are there too. Arithmetic, random bits and options as in `matmul`; there is no bias.
    Shapes: (n, c, h, w) by (k, c / groups, r, s) gives (n, k, p, q).
    Raises: UsageError for arrays that are not of this shape.
    """
    x, w = _check("x_nchw", x_nchw, _input_shape(shape)), _check("w_kcrs", w_kcrs, _weight_shape(shape))
    last = images_last(shape)
    if last:
        x = np.ascontiguousarray(x.transpose(1, 2, 3, 0))
    tables = (forward(shape, last),)
    return compute(shape.output, w, x, tables, arithmetic, seed=seed, stream=stream, out=out, threads=threads, isa=isa)


def input_gradient(
    dy_nkpq: F32,
    w_kcrs: F32,
    shape: ConvolutionShape,
    arithmetic: Arithmetic,
    *,
    seed: int = 0,
    stream: int = 0,
    out: F32 | None = None,
    threads: int | None = None,
    isa: str | None = None,
) -> F32:
    """Return ``dx[n, c, y, x]``, the sum over (k, r, s) of ``w[k, c, r, s] dy[n, k, (y + pad - r dilation) / stride, ...]``.

    The terms are in C order of (k, r, s), k within the group. Taps at which the division leaves a remainder are no terms and are not
    counted; outputs beyond the edge count as zeros. Pixels without terms are +0.
    Shapes: (n, k, p, q) by (k, c / groups, r, s) gives (n, c, h, w).
    Raises: UsageError for arrays that are not of this shape.
    """
    dy, w = _check("dy_nkpq", dy_nkpq, shape.output), _check("w_kcrs", w_kcrs, _weight_shape(shape))
    last = images_last(shape)
    tables = input_tables(shape, last)
    if last:
        dy = np.ascontiguousarray(dy.transpose(1, 2, 3, 0))
    return compute(_input_shape(shape), w, dy, tables, arithmetic, seed=seed, stream=stream, out=out, threads=threads, isa=isa)


def weight_gradient(
    x_nchw: F32,
    dy_nkpq: F32,
    shape: ConvolutionShape,
    arithmetic: Arithmetic,
    *,
    seed: int = 0,
    stream: int = 0,
    out: F32 | None = None,
    threads: int | None = None,
    isa: str | None = None,
) -> F32:
    """Return ``dw[k, c, r, s]``, the sum over (n, p, q) of ``dy[n, k, p, q] x[n, c, p stride + r dilation - pad, q ...]``.

    The terms are in C order of (n, p, q). Padding counts as zeros.
    Shapes: (n, c, h, w) and (n, k, p, q) give (k, c / groups, r, s).
    Raises: UsageError for arrays that are not of this shape.
    """
    x, dy = _check("x_nchw", x_nchw, _input_shape(shape)), _check("dy_nkpq", dy_nkpq, shape.output)
    channels_last = shape.groups == 1
    if channels_last:
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    tables = (weight_tables(shape, channels_last),)
    return compute(_weight_shape(shape), dy, x, tables, arithmetic, seed=seed, stream=stream, out=out, threads=threads, isa=isa)


def _input_shape(shape: ConvolutionShape) -> tuple[int, ...]:
    return shape.batch, shape.in_channels, *shape.size


def _weight_shape(shape: ConvolutionShape) -> tuple[int, ...]:
    return shape.out_channels, shape.in_channels // shape.groups, *shape.windows.kernel


def _check(name: str, array: F32, wanted: tuple[int, ...]) -> F32:
    found = check_operand(name, array, 4)
    if found.shape != wanted:
        raise UsageError(f"{name} has shape {found.shape}; this convolution needs {wanted}.")
    return found
