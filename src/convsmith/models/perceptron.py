"""Networks without a convolution: the perceptron, logistic regression and the multilayer perceptron."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from convsmith.models.initialisation import glorot, normal


class LinearClassifier(nn.Module):
    """One weighted sum of all pixels a class.

    `start="zeros"` is the perceptron of Rosenblatt (1958), whose rule needs no random start; `start="glorot"` is logistic
    regression. The two differ in their loss alone, which training chooses.

    Shapes: (batch, in_channels, height, width) -> (batch, classes).
    """

    def __init__(self, *, classes: int, in_channels: int, input_size: tuple[int, int], start: str = "glorot") -> None:
        super().__init__()
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(in_channels * math.prod(input_size), classes)
        if start == "zeros":
            nn.init.zeros_(self.classifier.weight)
            nn.init.zeros_(self.classifier.bias)
        else:
            glorot(self)

    def forward(self, x_nchw: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.flatten(x_nchw))
        return logits


class MLP(nn.Module):
    """Fully connected layers with ReLU between them; (300, 100) hidden units make LeNet-300-100.

    `start`: "glorot", or the standard deviation of the normal distribution that all weights are drawn from, with biases of zero.

    Shapes: (batch, in_channels, height, width) -> (batch, classes).

    References: LeCun et al. 1998, section III.C.4 (28x28-300-100-10); Glorot, Bordes, Bengio 2011 (ReLU).
    """

    def __init__(
        self,
        *,
        classes: int,
        in_channels: int,
        input_size: tuple[int, int],
        hidden: Sequence[int] = (300, 100),
        dropout: float = 0.0,
        start: Literal["glorot"] | float = "glorot",
    ) -> None:
        super().__init__()
        self.flatten = nn.Flatten()
        self.features = nn.Sequential()
        width = in_channels * math.prod(input_size)
        for units in hidden:
            self.features.append(nn.Linear(width, units))
            self.features.append(nn.ReLU())
            if dropout:
                self.features.append(nn.Dropout(dropout))
            width = units
        self.classifier = nn.Linear(width, classes)
        if start == "glorot":
            glorot(self)
        else:
            normal(self, start)

    def forward(self, x_nchw: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(self.flatten(x_nchw)))
        return logits
