"""Bi-Real Net: a ResNet whose every binary convolution has a shortcut of float numbers around it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from convsmith.models.initialisation import he
from convsmith.models.signs import Sign, SignConv2d


class BiRealUnit(nn.Module):
    """Sign, one binary 3x3 convolution, batch norm, plus the input, which an average and a 1x1 convolution bring to another shape.

    Shapes: (n, channels, h, w) -> (n, width, h / stride, w / stride).
    """

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.sign = Sign("approx_sign")
        self.conv = SignConv2d(channels, width, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels != width:
            pool: list[nn.Module] = [nn.AvgPool2d(2, ceil_mode=True)] if stride == 2 else []
            self.shortcut = nn.Sequential(*pool, nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.conv(self.sign(x))) + self.shortcut(x)
        return y


class BiRealNet(nn.Module):
    """The stem and widths of ResNet-18 with float32 first and last layers, and binary convolutions with a shortcut each between them.

    Shapes: (batch, in_channels, height, width) -> (batch, classes).
    References: Liu et al. 2018, Bi-Real Net, arXiv 1808.00278, figure 3 and section 4.
    """

    def __init__(
        self, *, classes: int, in_channels: int, input_size: tuple[int, int], depths: Sequence[int] = (4, 4, 4, 4), width: int = 64
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(in_channels, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.MaxPool2d(3, 2, 1))
        units: list[nn.Module] = []
        channels = width
        for stage, depth in enumerate(depths):
            wide = width << stage
            for place in range(depth):
                units.append(BiRealUnit(channels, wide, 2 if stage and not place else 1))
                channels = wide
        self.units = nn.Sequential(*units)
        self.pool, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.classifier = nn.Linear(channels, classes)
        he(self)

    def forward(self, x_nchw: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.flatten(self.pool(self.units(self.stem(x_nchw)))))
        return logits
