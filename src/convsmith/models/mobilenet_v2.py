"""MobileNet V2: inverted residuals with linear bottlenecks, with the parameter names of torchvision."""

from __future__ import annotations

from torch import Tensor, nn

from convsmith.models.initialisation import he
from convsmith.models.same_padding import convolution
from convsmith.models.stochastic_depth import BranchDrop

# expansion t, maps c, repeats n, stride s: table 2 of the paper
LAYOUT = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


class InvertedResidual(nn.Module):
    """Expand by 1x1, filter each map by 3x3, project by 1x1 without an activation (figure 4d)."""

    def __init__(self, channels: int, width: int, stride: int, expansion: int, same: bool) -> None:
        super().__init__()
        hidden = channels * expansion
        self.conv = nn.Sequential()
        if expansion != 1:
            self.conv.append(_activated(channels, hidden, 1))
        self.conv.append(_activated(hidden, hidden, 3, stride, hidden, same))
        self.conv.append(convolution(hidden, width, 1))
        self.conv.append(nn.BatchNorm2d(width))
        self.residual = stride == 1 and channels == width
        self.branch_drop = BranchDrop() if self.residual else nn.Identity()

    def forward(self, x_nchw: Tensor) -> Tensor:
        out: Tensor = self.conv(x_nchw)
        return x_nchw + self.branch_drop(out) if self.residual else out


class MobileNetV2(nn.Module):
    """One convolution, seventeen inverted residuals, a 1x1 convolution, a global average.

    `width` multiplies every number of maps, rounded to multiples of 8. `same_padding` pads as TensorFlow, for weights that
    were trained there.

    Shapes: (batch, in_channels, height, width) -> (batch, classes).

    References: Sandler et al. 2018, MobileNetV2, arXiv 1801.04381, table 2.
    """

    def __init__(
        self,
        *,
        classes: int,
        in_channels: int,
        input_size: tuple[int, int],
        width: float = 1.0,
        same_padding: bool = False,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        channels, last = _eights(32 * width), _eights(1280 * max(1.0, width))
        self.features = nn.Sequential(_activated(in_channels, channels, 3, 2, 1, same_padding))
        for expansion, maps, repeats, first_stride in LAYOUT:
            for repeat in range(repeats):
                stride = first_stride if repeat == 0 else 1
                self.features.append(InvertedResidual(channels, _eights(maps * width), stride, expansion, same_padding))
                channels = _eights(maps * width)
        self.features.append(_activated(channels, last, 1))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(last, classes))
        he(self, linear_std=0.01)

    def forward(self, x_nchw: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.flatten(self.pool(self.features(x_nchw))))
        return logits


def _activated(channels: int, width: int, kernel: int, stride: int = 1, groups: int = 1, same: bool = False) -> nn.Sequential:
    return nn.Sequential(convolution(channels, width, kernel, stride, groups, same=same), nn.BatchNorm2d(width), nn.ReLU6())


def _eights(maps: float) -> int:
    """Round to a multiple of 8, never down by more than a tenth (as the authors' code)."""
    rounded = max(8, int(maps + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * maps else rounded
