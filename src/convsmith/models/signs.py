"""Where a network means to be binary: layers whose weights a plan reads as signs, and places where it takes signs of numbers."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn


class Sign(nn.Hardtanh):
    """A place for signs: a hard tanh in float32, the sign of its input under a binary plan.

    ``gradient``: the derivative that a binary plan takes in the place of the sign's, that of a hard tanh or of a polynomial close to the
    sign (Liu et al. 2018, arXiv 1808.00278, section 3.3).
    """

    def __init__(self, gradient: Literal["hard_tanh", "approx_sign"] = "hard_tanh") -> None:
        super().__init__()
        self.gradient = gradient


class SignConv2d(nn.Conv2d):
    """A convolution whose weights a binary plan reads as -1 and 1; in float32 like any other."""


class SignLinear(nn.Linear):
    """A linear layer whose weights a binary plan reads as -1 and 1; in float32 like any other."""


class Shift(nn.Module):
    """Add one learned number a channel: the threshold of a sign, or the move of a PReLU (ReActNet, arXiv 2003.03488, section 4.3).

    Shapes: (batch, channels, ...) -> the same.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias
