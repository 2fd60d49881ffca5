"""Maxout: a unit is the largest of several weighted sums."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from convsmith.models.initialisation import glorot


class Maxout(nn.Module):
    """Linear layer of ``units * pieces`` outputs, of which each unit gives the largest of its ``pieces``.

    Shapes: (batch, inputs) -> (batch, units).

    References: Goodfellow et al. 2013, Maxout networks, arXiv 1302.4389, section 2.
    """

    def __init__(self, inputs: int, units: int, pieces: int) -> None:
        super().__init__()
        self.pieces = pieces
        self.linear = nn.Linear(inputs, units * pieces)

    def forward(self, x: Tensor) -> Tensor:
        sums: Tensor = self.linear(x)
        pieces: Tensor = torch.unflatten(sums, 1, (-1, self.pieces))
        return pieces.amax(2)


class MaxoutNet(nn.Module):
    """Maxout layers with dropout before each, then one linear layer, for images as plain lists of pixels.

    Shapes: (batch, in_channels, height, width) -> (batch, classes).

    References: Goodfellow et al. 2013, arXiv 1302.4389, section 5.1; Courbariaux, Bengio, David 2014, arXiv 1412.7024, section 8.1.
    """

    def __init__(
        self,
        *,
        classes: int,
        in_channels: int,
        input_size: tuple[int, int],
        hidden: Sequence[int] = (240, 240),
        pieces: int = 5,
        dropout_in: float = 0.2,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.flatten = nn.Flatten()
        self.features = nn.Sequential()
        width = in_channels * math.prod(input_size)
        for place, units in enumerate(hidden):
            self.features.append(nn.Dropout(dropout if place else dropout_in))
            self.features.append(Maxout(width, units, pieces))
            width = units
        self.features.append(nn.Dropout(dropout))
        self.classifier = nn.Linear(width, classes)
        glorot(self)

    def forward(self, x_nchw: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(self.flatten(x_nchw)))
        return logits
