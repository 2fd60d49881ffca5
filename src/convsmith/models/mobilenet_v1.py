"""MobileNet V1: depthwise separable convolutions."""

from __future__ import annotations

from torch import Tensor, nn

from convsmith.models.initialisation import he
from convsmith.models.same_padding import convolution

# (maps, stride) of the thirteen separable convolutions: table 1 of the paper
LAYOUT = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))


class Separable(nn.Module):
    """A 3x3 filter per map, then a 1x1 convolution, each with batch norm and ReLU (figure 3 right)."""

    def __init__(self, channels: int, width: int, stride: int, same: bool) -> None:
        super().__init__()
        self.depthwise = convolution(channels, channels, 3, stride, channels, same=same)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        self.pointwise = convolution(channels, width, 1)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU()

    def forward(self, x_nchw: Tensor) -> Tensor:
        x = self.relu1(self.bn1(self.depthwise(x_nchw)))
        out: Tensor = self.relu2(self.bn2(self.pointwise(x)))
        return out


class MobileNetV1(nn.Module):
    """One convolution, thirteen separable ones, a global average.

    `width` multiplies every number of maps (alpha of the paper). `same_padding` pads as TensorFlow.

    Shapes: (batch, in_channels, height, width) -> (batch, classes).

    References: Howard et al. 2017, MobileNets, arXiv 1704.04861, tables 1 and 6.
    """

    def __init__(
        self,
        *,
        classes: int,
        in_channels: int,
        input_size: tuple[int, int],
        width: float = 1.0,
        same_padding: bool = False,
        dropout: float = 0.001,
    ) -> None:
        super().__init__()
        channels = int(32 * width)
        self.stem = nn.Sequential(convolution(in_channels, channels, 3, 2, same=same_padding), nn.BatchNorm2d(channels), nn.ReLU())
        self.features = nn.Sequential()
        for maps, stride in LAYOUT:
            self.features.append(Separable(channels, int(maps * width), stride, same_padding))
            channels = int(maps * width)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(channels, classes)
        he(self)

    def forward(self, x_nchw: Tensor) -> Tensor:
        x = self.flatten(self.pool(self.features(self.stem(x_nchw))))
        logits: Tensor = self.classifier(self.dropout(x))
        return logits
