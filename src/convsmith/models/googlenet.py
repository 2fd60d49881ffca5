"""GoogLeNet (Inception V1) with batch norm, with the parameter names of torchvision."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import torch
from torch import Tensor, nn

from convsmith.models.initialisation import he


class Scores(NamedTuple):
    """What a GoogLeNet with auxiliary heads gives while it trains; the paper weighs the two by 0.3."""

    logits: Tensor
    aux2: Tensor
    aux1: Tensor


class Inception(nn.Module):
    """Four branches side by side: 1x1, 3x3, `large`x`large`, pooled 1x1 (figure 2b).

    `maps` are the columns of table 1 of the paper: 1x1; reduction and 3x3; reduction and "5x5"; pool projection.
    """

    def __init__(self, channels: int, maps: tuple[int, int, int, int, int, int], large: int) -> None:
        super().__init__()
        one, reduce3, three, reduce5, five, pooled = maps
        self.branch1 = _activated(channels, one, 1)
        self.branch2 = nn.Sequential(_activated(channels, reduce3, 1), _activated(reduce3, three, 3))
        self.branch3 = nn.Sequential(_activated(channels, reduce5, 1), _activated(reduce5, five, large))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1, ceil_mode=True), _activated(channels, pooled, 1))

    def forward(self, x_nchw: Tensor) -> Tensor:
        return torch.cat([self.branch1(x_nchw), self.branch2(x_nchw), self.branch3(x_nchw), self.branch4(x_nchw)], 1)


class AuxiliaryHead(nn.Module):
    """A classifier on a middle map that helps the gradient while training (section 5 of the paper)."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.conv = _activated(channels, 128, 1)
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(2048, 1024)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(0.7)
        self.fc2 = nn.Linear(1024, classes)

    def forward(self, x_nchw: Tensor) -> Tensor:
        x = self.relu(self.fc1(self.flatten(self.conv(self.pool(x_nchw)))))
        logits: Tensor = self.fc2(self.dropout(x))
        return logits


class GoogLeNet(nn.Module):
    """Nine inception modules and a global average.

    As in torchvision the "5x5" branch is 3x3, which makes the published 6,624,904 parameters; `large=5` is the paper's.
    With `aux` the network gives `Scores` while training and plain logits in eval mode, where the heads do nothing.

    Shapes: (batch, in_channels, height, width) -> (batch, classes); at least 32 pixels a side.

    References: Szegedy et al. 2014, Going deeper with convolutions, arXiv 1409.4842, table 1; Ioffe, Szegedy 2015 (batch norm).
    """

    def __init__(
        self, *, classes: int, in_channels: int, input_size: tuple[int, int], aux: bool = False, large: int = 3, dropout: float = 0.2
    ) -> None:
        super().__init__()
        self.conv1 = _activated(in_channels, 64, 7, 2)
        self.maxpool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2 = _activated(64, 64, 1)
        self.conv3 = _activated(64, 192, 3)
        self.maxpool2 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.inception3a = Inception(192, (64, 96, 128, 16, 32, 32), large)
        self.inception3b = Inception(256, (128, 128, 192, 32, 96, 64), large)
        self.maxpool3 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.inception4a = Inception(480, (192, 96, 208, 16, 48, 64), large)
        self.inception4b = Inception(512, (160, 112, 224, 24, 64, 64), large)
        self.inception4c = Inception(512, (128, 128, 256, 24, 64, 64), large)
        self.inception4d = Inception(512, (112, 144, 288, 32, 64, 64), large)
        self.inception4e = Inception(528, (256, 160, 320, 32, 128, 128), large)
        self.maxpool4 = nn.MaxPool2d(2, 2, ceil_mode=True)
        self.inception5a = Inception(832, (256, 160, 320, 32, 128, 128), large)
        self.inception5b = Inception(832, (384, 192, 384, 48, 128, 128), large)
        self.aux1 = AuxiliaryHead(512, classes) if aux else None
        self.aux2 = AuxiliaryHead(528, classes) if aux else None
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(1024, classes)
        he(self, linear_std=0.01)

    def forward(self, x_nchw: Tensor) -> Tensor | Scores:
        x = self.maxpool2(self.conv3(self.conv2(self.maxpool1(self.conv1(x_nchw)))))
        x = self.maxpool3(self.inception3b(self.inception3a(x)))
        x4a = self.inception4a(x)
        x4d = self.inception4d(self.inception4c(self.inception4b(x4a)))
        x = self.maxpool4(self.inception4e(x4d))
        x = self.flatten(self.avgpool(self.inception5b(self.inception5a(x))))
        logits: Tensor = self.fc(self.dropout(x))
        if self.training and self.aux1 is not None and self.aux2 is not None:
            return Scores(logits, self.aux2(x4d), self.aux1(x4a))
        return logits


def _activated(channels: int, width: int, kernel: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(channels, width, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(OrderedDict(conv=convolution, bn=nn.BatchNorm2d(width, eps=0.001), relu=nn.ReLU()))
