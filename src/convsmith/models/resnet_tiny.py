"""ResNet-8 of MLPerf Tiny: three residual blocks of 16, 32 and 64 maps with TensorFlow's padding and batch norm."""

from __future__ import annotations

from torch import Tensor, nn

from convsmith.models.initialisation import he
from convsmith.models.same_padding import SameConv2d
from convsmith.models.stochastic_depth import BranchDrop

EPS = 1e-3
"""Of Keras's batch norm."""


class TinyBlock(nn.Module):
    """Two 3x3 convolutions beside an identity, or a 1x1 convolution where the maps halve; every convolution has a bias."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = SameConv2d(channels, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width, eps=EPS)
        self.relu1 = nn.ReLU()
        self.conv2 = SameConv2d(width, width, 3)
        self.shortcut = nn.Identity() if stride == 1 and channels == width else SameConv2d(channels, width, 1, stride)
        self.bn2 = nn.BatchNorm2d(width, eps=EPS)
        self.branch_drop = BranchDrop()
        self.relu2 = nn.ReLU()

    def forward(self, x_nchw: Tensor) -> Tensor:
        x = self.branch_drop(self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x_nchw))))))
        out: Tensor = self.relu2(x + self.shortcut(x_nchw))
        return out


class TinyResNet(nn.Module):
    """Classify small images with eight layers.

    Shapes: (batch, in_channels, height, width) -> (batch, classes).

    References: Banbury et al. 2021, MLPerf Tiny Benchmark, arXiv 2106.07597, table 1.
    """

    def __init__(self, *, classes: int, in_channels: int, input_size: tuple[int, int]) -> None:
        super().__init__()
        self.conv1 = SameConv2d(in_channels, 16, 3)
        self.bn1 = nn.BatchNorm2d(16, eps=EPS)
        self.relu = nn.ReLU()
        self.block1 = TinyBlock(16, 16, 1)
        self.block2 = TinyBlock(16, 32, 2)
        self.block3 = TinyBlock(32, 64, 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(64, classes)
        he(self)

    def forward(self, x_nchw: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x_nchw)))
        x = self.block3(self.block2(self.block1(x)))
        logits: Tensor = self.linear(self.flatten(self.avgpool(x)))
        return logits
