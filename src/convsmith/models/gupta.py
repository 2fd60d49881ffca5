"""The networks on which Gupta et al. tried 16-bit fixed point; the multilayer perceptron among them is `perceptron.MLP`."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from convsmith.models.initialisation import he


class GuptaLeNet(nn.Module):
    """Two 5x5 convolutions without padding, each with ReLU and maximum pooling by 2, then a hidden layer.

    Shapes: (batch, in_channels, height, width) -> (batch, classes); at least 16 pixels a side.

    References: Gupta et al. 2015, arXiv 1502.02551, section 4.2: 8 maps, 16 maps, 128 hidden units.
    """

    def __init__(
        self, *, classes: int, in_channels: int, input_size: tuple[int, int], maps: Sequence[int] = (8, 16), hidden: int = 128
    ) -> None:
        super().__init__()
        self.features = nn.Sequential()
        channels, sides = in_channels, list(input_size)
        for count in maps:
            self.features.extend((nn.Conv2d(channels, count, 5), nn.ReLU(), nn.MaxPool2d(2)))
            channels, sides = count, [(side - 4) // 2 for side in sides]
        self.flatten = nn.Flatten()
        self.hidden = nn.Linear(channels * math.prod(sides), hidden)
        self.relu = nn.ReLU()
        self.classifier = nn.Linear(hidden, classes)
        he(self)

    def forward(self, x_nchw: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.relu(self.hidden(self.flatten(self.features(x_nchw)))))
        return logits


class GuptaCifarNet(nn.Module):
    """Three 5x5 convolutions with ReLU and overlapping maximum pooling, 3x3 by 2, then one linear layer.

    Shapes: (batch, in_channels, height, width) -> (batch, classes).

    References: Gupta et al. 2015, arXiv 1502.02551, section 4.3: 64 maps each.
    """

    def __init__(self, *, classes: int, in_channels: int, input_size: tuple[int, int], maps: Sequence[int] = (64, 64, 64)) -> None:
        super().__init__()
        self.features = nn.Sequential()
        channels, sides = in_channels, list(input_size)
        for count in maps:
            self.features.extend((nn.Conv2d(channels, count, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)))
            channels, sides = count, [(side + 1) // 2 for side in sides]
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(channels * math.prod(sides), classes)
        he(self)

    def forward(self, x_nchw: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.flatten(self.features(x_nchw)))
        return logits
