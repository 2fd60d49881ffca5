"""Rounded products of torch tensors: on processors by `kernels.rounded` without copies, on CUDA by a Triton kernel from the same tables."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from convsmith.errors import UsageError
from convsmith.kernels import rounded, rounded_convolution
from convsmith.kernels.arithmetic import Arithmetic
from convsmith.kernels.geometry import ConvolutionShape
from convsmith.kernels.rounded_random import call_key
from convsmith.kernels.rounded_tables import Product, forward, matrix
from convsmith.kernels.rounded_tables import input_gradient as input_tables
from convsmith.kernels.rounded_tables import weight_gradient as weight_tables
from convsmith.precision.triton_launch import multiply_gathered


def multiply(
    a: Tensor, b: Tensor, arithmetic: Arithmetic, *, transpose_a: bool = False, transpose_b: bool = False, seed: int = 0, stream: int = 0
) -> Tensor:
    """Return what `kernels.rounded.matmul` returns for the same float32 numbers, on the device of the tensors.

    Shapes: (m, k) by (k, n) gives (m, n); transposed factors are (k, m) and (n, k).
    Raises: UsageError for tensors that do not pair up.
    """
    if _on_processor(a, b):
        y = rounded.matmul(_array(a), _array(b), arithmetic, transpose_a=transpose_a, transpose_b=transpose_b, seed=seed, stream=stream)
        return torch.from_numpy(y)
    (m, k), (k_b, n) = a.shape[:: -1 if transpose_a else 1], b.shape[:: -1 if transpose_b else 1]
    if k != k_b:
        raise UsageError(f"the products do not pair up: a has k = {k}, b has k = {k_b}.")
    tables = matrix(m, n, k, (1, m) if transpose_a else (k, 1), (1, k) if transpose_b else (n, 1))
    return _gather((m, n), a, b, (tables,), arithmetic, seed, stream)


def convolve(x_nchw: Tensor, w_kcrs: Tensor, shape: ConvolutionShape, arithmetic: Arithmetic, *, seed: int = 0, stream: int = 0) -> Tensor:
    """Return what `kernels.rounded_convolution.convolve` returns, on the device of the tensors."""
    if _on_processor(x_nchw, w_kcrs):
        y = rounded_convolution.convolve(_array(x_nchw), _array(w_kcrs), shape, arithmetic, seed=seed, stream=stream)
        return torch.from_numpy(y)
    return _gather(shape.output, w_kcrs, x_nchw, (forward(shape),), arithmetic, seed, stream)


def input_gradient(
    dy_nkpq: Tensor, w_kcrs: Tensor, shape: ConvolutionShape, arithmetic: Arithmetic, *, seed: int = 0, stream: int = 0
) -> Tensor:
    """Return what `kernels.rounded_convolution.input_gradient` returns, on the device of the tensors."""
    if _on_processor(dy_nkpq, w_kcrs):
        dx = rounded_convolution.input_gradient(_array(dy_nkpq), _array(w_kcrs), shape, arithmetic, seed=seed, stream=stream)
        return torch.from_numpy(dx)
    size = (shape.batch, shape.in_channels, *shape.size)
    return _gather(size, w_kcrs, dy_nkpq, input_tables(shape), arithmetic, seed, stream)


def weight_gradient(
    x_nchw: Tensor, dy_nkpq: Tensor, shape: ConvolutionShape, arithmetic: Arithmetic, *, seed: int = 0, stream: int = 0
) -> Tensor:
    """Return what `kernels.rounded_convolution.weight_gradient` returns, on the device of the tensors."""
    if _on_processor(x_nchw, dy_nkpq):
        dw = rounded_convolution.weight_gradient(_array(x_nchw), _array(dy_nkpq), shape, arithmetic, seed=seed, stream=stream)
        return torch.from_numpy(dw)
    size = (shape.out_channels, shape.in_channels // shape.groups, *shape.windows.kernel)
    return _gather(size, dy_nkpq, x_nchw, (weight_tables(shape),), arithmetic, seed, stream)


def _gather(
    size: tuple[int, ...], a: Tensor, b: Tensor, products: tuple[Product, ...], arithmetic: Arithmetic, seed: int, stream: int
) -> Tensor:
    """Compute gathered products into one tensor; what no product reaches is +0."""
    result = torch.zeros(size, device=a.device)
    key = call_key(seed, stream) if arithmetic.rounding == "stochastic" else (0, 0)
    flat_a, flat_b = (x.detach().contiguous().reshape(-1) for x in (a, b))
    for product in products:
        multiply_gathered(flat_a, flat_b, result.reshape(-1), product, arithmetic, key)
    return result


def _on_processor(a: Tensor, b: Tensor) -> bool:
    """Tell whether both factors are on a processor; refuse other types and factors on two devices."""
    for x in (a, b):
        if x.dtype != torch.float32:
            raise UsageError(f"a rounded product takes float32 tensors, which carry the values of every format; got {x.dtype}.")
    if a.device != b.device:
        raise UsageError(f"both factors of a product must be on one device; got {a.device} and {b.device}.")
    return a.is_cpu


def _array(x: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    found: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = x.detach().contiguous().numpy()
    return found
