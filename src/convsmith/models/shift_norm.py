"""Batch normalisation whose factors are powers of two, so that hardware shifts instead of multiplying."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn


def nearest_power_of_two(x: Tensor) -> Tensor:
    """Return ``sign(x) 2^round(log2|x|)``, found in the bits of x without a logarithm; zero stays zero.

    The border between two powers is their geometric mean, as the rounded logarithm has it.
    References: Courbariaux et al. 2016, arXiv 1602.02830, section 3.1 (AP2).
    """
    fraction, exponent = torch.frexp(x)
    size = torch.ldexp(torch.ones_like(x), exponent - (fraction.abs() < math.sqrt(0.5)).to(exponent.dtype))
    return torch.where(x == 0, x, torch.copysign(size, x))


class PowerOfTwo(torch.autograd.Function):
    """The nearest power of two, whose derivative counts as one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return nearest_power_of_two(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


class ShiftBatchNorm(nn.Module):
    """Batch norm of the channels of axis 1 in which each multiplication is one by a power of two.

    The variance is the mean of ``c * AP2(c)``, c being the centred values, and the result ``c * AP2(1 / deviation) * AP2(weight) + bias``.

    Shapes: (batch, features, ...) -> the same.
    References: Courbariaux et al. 2016, arXiv 1602.02830, algorithm 3.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, features: int, eps: float = 1e-4, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight, self.bias = nn.Parameter(torch.ones(features)), nn.Parameter(torch.zeros(features))
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))

    def forward(self, x: Tensor) -> Tensor:
        view = (1, -1, *(1,) * (x.ndim - 2))
        if self.training:
            axes = (0, *range(2, x.ndim))
            mean = x.mean(axes)
            centred = x - mean.reshape(view)
            variance = (centred * _power(centred)).mean(axes)
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(variance, self.momentum)
        else:
            centred, variance = x - self.running_mean.reshape(view), self.running_var
        normalised = centred * _power((variance + self.eps).rsqrt()).reshape(view)
        return normalised * _power(self.weight).reshape(view) + self.bias.reshape(view)


def _power(x: Tensor) -> Tensor:
    result: Tensor = PowerOfTwo.apply(x)  # type: ignore[no-untyped-call]
    return result
