"""What stands for the derivative of rounding, which is zero almost everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor

from convsmith import formats


def clipped(x: Tensor, fmt: formats.Format) -> Tensor:
    """One inside the range of the format, zero outside."""
    return ((x >= formats.min_value(fmt)) & (x <= formats.max_value(fmt))).to(x.dtype)


def hard_tanh(x: Tensor, fmt: formats.Format) -> Tensor:
    """One for magnitudes up to 1, zero beyond (Hubara et al. 2016, arXiv 1602.02830)."""
    return (x.abs() <= 1).to(x.dtype)


def approx_sign(x: Tensor, fmt: formats.Format) -> Tensor:
    """The derivative of a piecewise quadratic sign, ``max(0, 2 - 2|x|)`` (Liu et al. 2018, arXiv 1808.00278)."""
    return (2 - 2 * x.abs()).clamp_(min=0)


PSEUDO_GRADIENTS: Final[dict[str, Callable[[Tensor, formats.Format], Tensor]]] = {
    "clipped": clipped,
    "hard_tanh": hard_tanh,
    "approx_sign": approx_sign,
}


class LearnedStep(torch.autograd.Function):
    """Round to whole multiples of a learned step, or of one for each index of an axis, within the integers ``low`` to ``high``.

    The gradient of a step is scaled by ``1 / sqrt(n high)``, n being the numbers it rounds, ``-low`` in the place of ``high`` where most
    values are negative. Steps have a shape that spreads over ``x``.
    References: Esser et al. 2020, arXiv 1902.08153, equations 1 to 3 and section 2.2.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, low: float, high: float) -> Tensor:
        multiple = x / step
        whole = multiple.clamp(low, high).round_()
        ctx.save_for_backward(multiple, whole)
        ctx.limits, ctx.shape = (low, high), step.shape
        return whole * step

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (gradient,), (multiple, whole), (low, high) = gradients, ctx.saved_tensors, ctx.limits
        inside = (multiple >= low) & (multiple <= high)
        change = torch.where(inside, whole - multiple, whole)
        shape = ctx.shape
        count = multiple.numel() / max(1, shape.numel())
        largest = high if -low <= high + 1 else -low
        step = (gradient * change).sum_to_size(shape) / (count * largest) ** 0.5
        return gradient * inside, step, None, None


THRESHOLD: Final = 0.05
"""The part of the largest magnitude below which a ternary weight is zero (Zhu et al. 2017, arXiv 1612.01064, section 4.1)."""


class TernaryMagnitudes(torch.autograd.Function):
    """Read weights as ``scales[0]``, 0 or ``-scales[1]``, zero being those within a threshold.

    The gradient of a weight is scaled by the magnitude that it is read with, 1 for zero.
    References: Zhu et al. 2017, Trained Ternary Quantization, arXiv 1612.01064, equations 6 to 8.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scales: Tensor) -> Tensor:
        positive, negative = ternary_parts(x)
        ctx.save_for_backward(positive, negative, scales)
        return positive * scales[0] - negative * scales[1]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        (gradient,), (positive, negative, scales) = gradients, ctx.saved_tensors
        factor = torch.where(positive, scales[0], torch.where(negative, scales[1], 1.0))
        return gradient * factor, torch.stack([gradient[positive].sum(), -gradient[negative].sum()])


def ternary_parts(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return which weights are read as positive and which as negative."""
    threshold = THRESHOLD * x.abs().max()
    return x > threshold, x < -threshold


def first_magnitudes(x: Tensor) -> Tensor:
    """Return the magnitudes that learning begins with, those of least squared error: the mean of either part, 1 of none."""
    return torch.stack([x[part].abs().mean() if part.any() else torch.ones(()) for part in ternary_parts(x)])


def first_step(x: Tensor, high: float) -> float:
    """Return the step that learning begins with, ``2 mean|x| / sqrt(high)`` (section 2.1 there)."""
    return float(2 * x.abs().mean() / high**0.5) or 1.0
