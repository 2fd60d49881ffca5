"""QuickNet of Larq: binary 3x3 convolutions with a shortcut each, and float 1x1 convolutions where pixels are halved."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from convsmith.models.initialisation import he
from convsmith.models.same_padding import SameConv2d
from convsmith.models.signs import Sign, SignConv2d


class QuickUnit(nn.Module):
    """Sign, a border of ones, one binary 3x3 convolution, ReLU, batch norm, and the input added.

    Shapes: (n, channels, h, w) -> the same.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.sign, self.border = Sign(), nn.ConstantPad2d(1, 1.0)
        self.conv = SignConv2d(channels, channels, 3, bias=False)
        self.relu, self.norm = nn.ReLU(), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.relu(self.conv(self.border(self.sign(x))))) + x
        return y


class LarqQuickNet(nn.Module):
    """A small float stem, sections of binary units, and between them maximum, blur at every second pixel and a float 1x1 convolution.

    Shapes: (batch, in_channels, height, width) -> (batch, classes).
    References: Bannink et al. 2021, Larq Compute Engine, arXiv 2011.09398, section 4; Larq Zoo, ``sota.QuickNet`` 1.0.
    """

    def __init__(
        self,
        *,
        classes: int,
        in_channels: int,
        input_size: tuple[int, int],
        depths: Sequence[int] = (4, 4, 4, 4),
        widths: Sequence[int] = (64, 128, 256, 512),
    ) -> None:
        super().__init__()
        first, slim = widths[0], widths[0] // 4
        self.stem = nn.Sequential(
            *(SameConv2d(in_channels, slim, 3, 2, bias=False), nn.BatchNorm2d(slim, eps=1e-3), nn.ReLU()),
            *(SameConv2d(slim, slim, 3, 2, groups=slim, bias=False), nn.BatchNorm2d(slim, eps=1e-3, affine=False)),
            *(nn.Conv2d(slim, first, 1, bias=False), nn.BatchNorm2d(first, eps=1e-3)),
        )
        parts: list[nn.Module] = []
        channels = first
        for depth, width in zip(depths, widths, strict=True):
            if width != channels:
                parts.append(_halving(channels, width))
                channels = width
            parts += [QuickUnit(channels) for _ in range(depth)]
        self.sections, self.relu = nn.Sequential(*parts), nn.ReLU()
        self.pool, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.classifier = nn.Linear(channels, classes)
        he(self)
        for name, part in self.sections.named_modules():
            if name.endswith("blur"):
                _fill(part)

    def forward(self, x_nchw: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.flatten(self.pool(self.relu(self.sections(self.stem(x_nchw))))))
        return logits


def _halving(channels: int, width: int) -> nn.Sequential:
    parts = nn.Sequential()
    for name, part in (
        ("relu", nn.ReLU()),
        ("maximum", nn.MaxPool2d(2, 1)),
        ("blur", SameConv2d(channels, channels, 3, 2, groups=channels, bias=False)),
        ("conv", nn.Conv2d(channels, width, 1, bias=False)),
        ("norm", nn.BatchNorm2d(width)),
    ):
        parts.add_module(name, part)
    return parts


def _fill(blur: nn.Module) -> None:
    """Fix the weights at 1, 2, 1 along both axes, over 16 (Zhang 2019, arXiv 1904.11486); they count as parameters, as published."""
    assert isinstance(blur, nn.Conv2d)
    line = torch.tensor([1.0, 2.0, 1.0])
    blur.weight.requires_grad_(False).copy_((line[:, None] * line / 16).expand_as(blur.weight))
