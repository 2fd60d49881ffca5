"""The default for small images: stages of 3x3 convolutions with batch norm, then one global average."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from convsmith.models.initialisation import he


class SmallNet(nn.Module):
    """Classify images of 8 to 64 pixels, fast on a CPU.

    A stage is `convolutions` times (3x3, batch norm, ReLU); maximum pooling by 2 follows every stage but the last.
    From 48 pixels on the first convolution has stride 2.

    Shapes: (batch, in_channels, height, width) -> (batch, classes).
    """

    def __init__(
        self,
        *,
        classes: int,
        in_channels: int,
        input_size: tuple[int, int],
        widths: Sequence[int] = (32, 64, 128),
        convolutions: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        stride = 2 if min(input_size) >= 48 else 1
        self.features = nn.Sequential()
        channels = in_channels
        for index, width in enumerate(widths):
            self.features.append(_stage(channels, width, convolutions, stride if index == 0 else 1))
            if index < len(widths) - 1:
                self.features.append(nn.MaxPool2d(2))
            channels = width
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(channels, classes)
        he(self)

    def forward(self, x_nchw: Tensor) -> Tensor:
        x: Tensor = self.flatten(self.pool(self.features(x_nchw)))
        logits: Tensor = self.classifier(self.dropout(x))
        return logits


def _stage(channels: int, width: int, convolutions: int, stride: int) -> nn.Sequential:
    stage = nn.Sequential()
    for index in range(convolutions):
        stage.append(nn.Conv2d(channels, width, 3, stride if index == 0 else 1, 1, bias=False))
        stage.append(nn.BatchNorm2d(width))
        stage.append(nn.ReLU())
        channels = width
    return stage
