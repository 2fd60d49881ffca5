"""The multilayer perceptrons of BinaryConnect and BinaryNet. They are plain float networks: a plan makes their numbers binary."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from convsmith.models.initialisation import glorot
from convsmith.models.shift_norm import ShiftBatchNorm
from convsmith.models.signs import Sign, SignLinear

Activation = Literal["relu", "hard_tanh"]


class BinaryMLP(nn.Module):
    """Linear layers, each with batch norm, an activation between them and a norm after the last as well.

    ``activation``: ``relu`` is BinaryConnect's, ``hard_tanh`` that of BinaryNet, whose binary form is the sign of it. ``norm``: ``shift``
    has powers of two for factors. The layers are ``hidden1.linear``, ``hidden1.norm``, ``hidden1.activation`` and so on, then ``output``.

    Shapes: (batch, in_channels, height, width) -> (batch, classes).

    References: Courbariaux, Bengio, David 2015, arXiv 1511.00363, section 3.1; Courbariaux et al. 2016, arXiv 1602.02830, section 2.
    """

    def __init__(
        self,
        *,
        classes: int,
        in_channels: int,
        input_size: tuple[int, int],
        hidden: Sequence[int] = (1024, 1024, 1024),
        activation: Activation = "relu",
        dropout_in: float = 0.0,
        dropout: float = 0.0,
        norm: Literal["batch", "shift"] = "batch",
    ) -> None:
        super().__init__()
        self.flatten = nn.Flatten()
        self.dropout_in = nn.Dropout(dropout_in)
        width = in_channels * math.prod(input_size)
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        for place, units in enumerate(hidden, 1):
            parts[f"hidden{place}"] = _layer(width, units, norm, activation, dropout)
            width = units
        parts["output"] = _layer(width, classes, norm, None, 0.0)
        self.layers = nn.Sequential(parts)
        glorot(self)

    def forward(self, x_nchw: Tensor) -> Tensor:
        logits: Tensor = self.layers(self.dropout_in(self.flatten(x_nchw)))
        return logits


def _layer(inputs: int, units: int, norm: str, activation: Activation | None, dropout: float) -> nn.Sequential:
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    parts["linear"] = SignLinear(inputs, units)
    parts["norm"] = ShiftBatchNorm(units) if norm == "shift" else nn.BatchNorm1d(units, eps=1e-4)
    if activation is not None:
        parts["activation"] = nn.ReLU() if activation == "relu" else Sign()
    if dropout:
        parts["dropout"] = nn.Dropout(dropout)
    return nn.Sequential(parts)
