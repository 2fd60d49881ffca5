"""SqueezeNet 1.0 and 1.1, with the parameter names of torchvision."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from convsmith.models.initialisation import he

# a number: the squeeze width of a fire module, whose two expansions have four times as many maps; "M": maximum pooling
LAYOUTS: dict[str, tuple[int | str, ...]] = {
    "1.0": ("M", 16, 16, 32, "M", 32, 48, 48, 64, "M", 64),
    "1.1": ("M", 16, 16, "M", 32, 32, "M", 48, 48, 64, 64),
}
STEMS = {"1.0": (96, 7), "1.1": (64, 3)}


class Fire(nn.Module):
    """Squeeze to few maps by 1x1, expand by 1x1 and 3x3 side by side (figure 1 of the paper)."""

    def __init__(self, channels: int, squeeze: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeeze, 1)
        self.squeeze_activation = nn.ReLU()
        self.expand1x1 = nn.Conv2d(squeeze, 4 * squeeze, 1)
        self.expand1x1_activation = nn.ReLU()
        self.expand3x3 = nn.Conv2d(squeeze, 4 * squeeze, 3, padding=1)
        self.expand3x3_activation = nn.ReLU()

    def forward(self, x_nchw: Tensor) -> Tensor:
        x = self.squeeze_activation(self.squeeze(x_nchw))
        return torch.cat([self.expand1x1_activation(self.expand1x1(x)), self.expand3x3_activation(self.expand3x3(x))], 1)


class SqueezeNet(nn.Module):
    """Fire modules and a 1x1 convolution with one map a class, averaged over the image.

    Pooling rounds its size up, as in the authors' Caffe files. The ReLU before the average is the authors'.

    Shapes: (batch, in_channels, height, width) -> (batch, classes); at least 32 pixels a side.

    References: Iandola et al. 2016, SqueezeNet, arXiv 1602.07360, table 1; version 1.1: github.com/forresti/SqueezeNet.
    """

    def __init__(self, *, classes: int, in_channels: int, input_size: tuple[int, int], version: str, dropout: float = 0.5) -> None:
        super().__init__()
        channels, kernel = STEMS[version]
        self.features = nn.Sequential(nn.Conv2d(in_channels, channels, kernel, 2), nn.ReLU())
        for item in LAYOUTS[version]:
            if isinstance(item, str):
                self.features.append(nn.MaxPool2d(3, 2, ceil_mode=True))
            else:
                self.features.append(Fire(channels, item))
                channels = 8 * item
        head = nn.Conv2d(channels, classes, 1)
        self.classifier = nn.Sequential(nn.Dropout(dropout), head, nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.flatten = nn.Flatten()
        he(self)
        nn.init.normal_(head.weight, 0.0, 0.01)

    def forward(self, x_nchw: Tensor) -> Tensor:
        logits: Tensor = self.flatten(self.classifier(self.features(x_nchw)))
        return logits
