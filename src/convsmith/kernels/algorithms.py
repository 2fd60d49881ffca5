"""What a convolution algorithm is, and the dict of those there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from convsmith.errors import UsageError
from convsmith.kernels import direct, im2col, integer_native, native
from convsmith.kernels.geometry import ConvolutionShape

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Algorithm:
    """One way to convolve, as functions of plain arrays; all of them compute the same sums in another order.

    ``supports(shape)``: whether it can. ``prepare(w_kcrs, shape)``: the weights in its own layout, done once.
    ``run(x_nchw, prepared, shape)``: the output NKHW, without bias. ``error_bound(shape)``: a factor e such that every
    output is within ``e * sum(|x| |w|)`` of the exact sum; proved where ``pointwise``, else the sum is the largest of all outputs
    and e is what tests hold the algorithm to. ``workspace_bytes(shape)``: memory beyond input and output. ``accuracy``: the
    limit of the float32 error relative to the largest output, on layers with weights distributed like VGG-19's (tested).
    ``run_nhwc``, where there is one, takes NHWC images, slices of wider tensors, an output to write into and an ``Epilogue``
    (see ``native.run_nhwc``). Algorithms named ``int8_`` take shapes of ``dtype`` uint8 or int8, with int8 weights, and no others.
    """

    name: str
    supports: Callable[[ConvolutionShape], bool]
    prepare: Callable[[Array, ConvolutionShape], Any]
    run: Callable[[Array, Any, ConvolutionShape], Array]
    error_bound: Callable[[ConvolutionShape], float]
    workspace_bytes: Callable[[ConvolutionShape], int]
    run_nhwc: Callable[..., Array] | None = None
    accuracy: float = 2e-6
    pointwise: bool = True


def summation_bound(shape: ConvolutionShape) -> float:
    """Return the bound of any order of summation, ``n u / (1 - n u)`` with n products and unit roundoff u.

    References: Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1.
    """
    nu = shape.products * float(np.finfo(shape.dtype).eps) / 2
    return nu / (1 - nu)


WINOGRAD: dict[str, float] = {
    "winograd_2x2_3x3": 2e-6,
    "winograd_4x4_3x3": 2e-5,
    "winograd_6x6_3x3": 5e-5,
    "winograd_2x2_5x5": 2e-5,
    "winograd_4x4_5x5": 5e-5,
    "winograd_1x4_1x3": 1e-5,
    "winograd_4x1_3x1": 1e-5,
    "winograd_1x4_1x5": 2e-5,
    "winograd_4x1_5x1": 2e-5,
    "winograd_5x5_4x4_parts": 5e-5,
    "winograd_4x4_5x5_parts": 5e-5,
}
"""The forms F(outputs, kernel) and their accuracy: it falls with the number of points, outputs + kernel - 1 along an axis.

Those in parts take larger kernels, cut into parts of the size named."""

FOURIER: dict[str, float] = {"fft_16x16": 1e-6, "fft_32x32": 1e-6}
"""Sides of the tiles, and the accuracy."""

FAST: dict[str, float] = {**WINOGRAD, **FOURIER, "strassen": 5e-6}
"""All that save multiplications: one large number spoils its neighbours' last bits."""


def native_algorithm(name: str) -> Algorithm:
    """Return an algorithm of the native module; it supports nothing where the module is missing."""
    limit = FAST.get(name)
    return Algorithm(
        name,
        partial(native.supports, name),
        partial(native.prepare, name),
        partial(native.run_nchw, name),
        summation_bound if limit is None else partial(constant_bound, limit),
        partial(native.workspace_bytes, name),
        partial(native.run_nhwc, name),
        *(() if limit is None else (limit, False)),
    )


def bfloat16_bound(shape: ConvolutionShape) -> float:
    """Return the bound of sums of products of operands rounded to 8 significant bits, relative to ``sum(|x| |w|)``."""
    u = 2.0**-8
    return (2 * u + u * u) + (1 + u) ** 2 * summation_bound(shape)


def integer_algorithm(name: str) -> Algorithm:
    """Return an algorithm on codes of the native module: ``run`` gives int32 sums, which are exact."""
    return Algorithm(
        name,
        partial(integer_native.supports, name),
        partial(integer_native.prepare, name),
        partial(integer_native.run_nchw, name),
        partial(constant_bound, 0.0),
        partial(integer_native.workspace_bytes, name),
        partial(integer_native.run_nhwc, name),
        0.0,
    )


INTEGER_WINOGRAD: dict[str, float] = {"int8_winograd_2x2_3x3": 3e-2, "int8_winograd_4x4_3x3": 1e-1}
"""The only algorithms on codes that are not exact, and their accuracy: they round to 8 bits a second time."""


def rounded_integer_algorithm(name: str, limit: float) -> Algorithm:
    return replace(integer_algorithm(name), error_bound=partial(constant_bound, limit), accuracy=limit, pointwise=False)


def constant_bound(limit: float, shape: ConvolutionShape) -> float:
    return limit


ALGORITHMS: dict[str, Algorithm] = {
    "naive": Algorithm("naive", lambda shape: True, direct.prepare, direct.run, summation_bound, direct.workspace_bytes),
    "im2col": Algorithm("im2col", lambda shape: True, im2col.prepare, im2col.run, summation_bound, im2col.workspace_bytes),
    **{name: native_algorithm(name) for name in ("loops", "gemm", "direct", "depthwise", *FAST)},
    "gemm_bfloat16": replace(native_algorithm("gemm_bfloat16"), error_bound=bfloat16_bound, accuracy=1e-2),
    **{name: integer_algorithm(name) for name in ("int8_loops", "int8_gemm", "int8_direct", "int8_depthwise")},
    **{name: rounded_integer_algorithm(name, limit) for name, limit in INTEGER_WINOGRAD.items()},
}


def register(algorithm: Algorithm) -> None:
    """Add an algorithm; ``UsageError`` when its name is taken."""
    if algorithm.name in ALGORITHMS:
        raise UsageError(f"an algorithm named {algorithm.name!r} exists already; taken are {', '.join(sorted(ALGORITHMS))}")
    ALGORITHMS[algorithm.name] = algorithm
