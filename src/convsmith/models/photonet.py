"""The default for photos that are trained from scratch on a CPU: a slim residual network."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from convsmith.models.initialisation import he
from convsmith.models.resnet import BasicBlock


class PhotoNet(nn.Module):
    """Classify photos of hundreds to thousands of images.

    A strided 3x3 convolution and a maximum shrink the image four times, then one basic residual block a stage.
    At 128x128 it costs a thirteenth of ResNet-18 (46 of 592 million multiply-adds) and holds a twentieth of its parameters, so
    an epoch of a few hundred photos takes seconds on two cores.

    Shapes: (batch, in_channels, height, width) -> (batch, classes).
    """

    def __init__(
        self,
        *,
        classes: int,
        in_channels: int,
        input_size: tuple[int, int],
        widths: Sequence[int] = (32, 48, 96, 160),
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, widths[0], 3, 2, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        )
        self.features = nn.Sequential()
        channels = widths[0]
        for index, width in enumerate(widths):
            self.features.append(BasicBlock(channels, width, 1 if index == 0 else 2))
            channels = width
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(channels, classes)
        he(self)

    def forward(self, x_nchw: Tensor) -> Tensor:
        x: Tensor = self.flatten(self.pool(self.features(self.stem(x_nchw))))
        logits: Tensor = self.classifier(self.dropout(x))
        return logits
