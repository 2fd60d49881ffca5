"""ReActNet: a binary MobileNet whose signs and activations have learned thresholds."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from convsmith.models.initialisation import he
from convsmith.models.signs import Shift, Sign, SignConv2d


class BinaryUnit(nn.Module):
    """A sign at a learned threshold, one or two binary convolutions side by side, batch norm, the input added, and a shifted PReLU.

    ``copies``: convolutions whose results are joined; each is added to the same input.
    Shapes: (n, channels, h, w) -> (n, copies * channels, h / stride, w / stride).
    References: Liu et al. 2020, arXiv 2003.03488, figure 3 and section 4.3.
    """

    def __init__(self, channels: int, kernel: int, stride: int = 1, copies: int = 1) -> None:
        super().__init__()
        self.threshold, self.sign = Shift(channels), Sign("approx_sign")
        self.convs = nn.ModuleList(SignConv2d(channels, channels, kernel, stride, kernel // 2, bias=False) for _ in range(copies))
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(copies))
        self.pool = nn.AvgPool2d(2, ceil_mode=True) if stride == 2 else nn.Identity()
        wide = channels * copies
        self.before, self.activation, self.after = Shift(wide), nn.PReLU(wide), Shift(wide)

    def forward(self, x: Tensor) -> Tensor:
        signs, same = self.sign(self.threshold(x)), self.pool(x)
        parts = [norm(conv(signs)) + same for conv, norm in zip(self.convs, self.norms, strict=True)]
        y: Tensor = self.after(self.activation(self.before(torch.cat(parts, 1) if len(parts) > 1 else parts[0])))
        return y


class ReActNet(nn.Module):
    """MobileNetV1's plan of widths: a binary 3x3 unit and a binary 1x1 unit a place, the first convolution and the last layer float32.

    Shapes: (batch, in_channels, height, width) -> (batch, classes).
    References: Liu et al. 2020, ReActNet, arXiv 2003.03488, figure 3 (ReActNet-A).
    """

    def __init__(
        self,
        *,
        classes: int,
        in_channels: int,
        input_size: tuple[int, int],
        widths: Sequence[int] = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024),
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(in_channels, widths[0], 3, 2, 1, bias=False), nn.BatchNorm2d(widths[0]))
        units: list[nn.Module] = []
        for place, (channels, width) in enumerate(itertools.pairwise(widths)):
            # pixels are halved wherever channels double, but for the first place
            units.append(BinaryUnit(channels, 3, 2 if place and width > channels else 1))
            units.append(BinaryUnit(channels, 1, copies=width // channels))
        self.units = nn.Sequential(*units)
        self.pool, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.classifier = nn.Linear(widths[-1], classes)
        he(self)

    def forward(self, x_nchw: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.flatten(self.pool(self.units(self.stem(x_nchw)))))
        return logits
