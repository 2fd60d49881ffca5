"""Rounding that lets gradients pass: the values by one format, their gradient by another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from convsmith.formats.format import Format
from convsmith.formats.modes import MAX_RANDOM_BITS, Overflow, Rounding
from convsmith.precision.rounding import round_tensor


@dataclass(frozen=True, slots=True)
class Way:
    """How to round a tensor, as a value: a format with rounding, overflow, scale and number of random bits."""

    format: Format
    rounding: Rounding = "nearest_even"
    overflow: Overflow = "saturate"
    scale: float | None = None
    random_bits: int = MAX_RANDOM_BITS

    def round(self, x: Tensor, seed: int, stream: int) -> Tensor:
        """Return the rounded tensor, without a gradient."""
        return round_tensor(
            x, self.format, self.rounding, self.overflow, seed=seed, stream=stream, scale=self.scale, random_bits=self.random_bits
        )


class Rounded(torch.autograd.Function):
    """The function behind `round_both`; its arguments are tensor, way of the values, way of the gradient, seed, two streams."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Way | None, gradient: Way | None, seed: int, stream: int, gradient_stream: int) -> Tensor:
        ctx.way, ctx.seed, ctx.stream = gradient, seed, gradient_stream
        return x.view_as(x) if values is None else values.round(x, seed, stream)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        rounded = gradient if ctx.way is None else ctx.way.round(gradient, ctx.seed, ctx.stream)
        return rounded, None, None, None, None, None


def round_both(x: Tensor, values: Way | None, gradient: Way | None, *, seed: int = 0, stream: int = 0, gradient_stream: int = 1) -> Tensor:
    """Round the values by one way and, when it comes back, the gradient by another; None leaves either as it is.

    The gradient passes as if rounding were the identity, also where values saturate. The two streams of random bits are of
    `round_tensor`. There is no second derivative: torch says so when it is asked for one.

    References: Bengio et al. 2013, arXiv 1308.3432 (the straight-through estimator).
    """
    apply: Callable[..., Tensor] = Rounded.apply
    return apply(x, values, gradient, seed, stream, gradient_stream)
