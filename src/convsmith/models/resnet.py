"""ResNets for photos: 18, 34 (basic blocks), 50 and 101 (bottlenecks), with the parameter names of torchvision."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from convsmith.models.initialisation import he
from convsmith.models.stochastic_depth import BranchDrop


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al. 2015, figure 5 left)."""

    expansion = 1

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.branch_drop = BranchDrop()
        self.downsample = projection(channels, width, stride)
        self.relu2 = nn.ReLU()

    def forward(self, x_nchw: Tensor) -> Tensor:
        x = self.relu1(self.bn1(self.conv1(x_nchw)))
        x = self.branch_drop(self.bn2(self.conv2(x)))
        shortcut = x_nchw if self.downsample is None else self.downsample(x_nchw)
        out: Tensor = self.relu2(x + shortcut)
        return out


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 beside a shortcut (He et al. 2015, figure 5 right); the stride is on the 3x3, as in torchvision."""

    expansion = 4

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.branch_drop = BranchDrop()
        self.downsample = projection(channels, 4 * width, stride)
        self.relu3 = nn.ReLU()

    def forward(self, x_nchw: Tensor) -> Tensor:
        x = self.relu1(self.bn1(self.conv1(x_nchw)))
        x = self.relu2(self.bn2(self.conv2(x)))
        x = self.branch_drop(self.bn3(self.conv3(x)))
        shortcut = x_nchw if self.downsample is None else self.downsample(x_nchw)
        out: Tensor = self.relu3(x + shortcut)
        return out


BLOCKS: dict[str, type[BasicBlock] | type[Bottleneck]] = {"basic": BasicBlock, "bottleneck": Bottleneck}


class ResNet(nn.Module):
    """A 7x7 convolution, four stages of residual blocks and a global average.

    Shapes: (batch, in_channels, height, width) -> (batch, classes).

    References: He, Zhang, Ren, Sun 2015, Deep residual learning for image recognition, arXiv 1512.03385, table 1.
    """

    def __init__(self, *, classes: int, in_channels: int, input_size: tuple[int, int], block: str, depths: Sequence[int]) -> None:
        super().__init__()
        kind = BLOCKS[block]
        self.conv1 = nn.Conv2d(in_channels, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = stage(kind, 64, 64, depths[0], 1)
        self.layer2 = stage(kind, 64 * kind.expansion, 128, depths[1], 2)
        self.layer3 = stage(kind, 128 * kind.expansion, 256, depths[2], 2)
        self.layer4 = stage(kind, 256 * kind.expansion, 512, depths[3], 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(512 * kind.expansion, classes)
        he(self)

    def forward(self, x_nchw: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x_nchw))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: Tensor = self.fc(self.flatten(self.avgpool(x)))
        return logits


def stage(kind: type[BasicBlock] | type[Bottleneck], channels: int, width: int, depth: int, stride: int) -> nn.Sequential:
    """Return `depth` blocks; the first one strides and widens."""
    blocks = nn.Sequential(kind(channels, width, stride))
    for _ in range(depth - 1):
        blocks.append(kind(width * kind.expansion, width, 1))
    return blocks


def projection(channels: int, width: int, stride: int) -> nn.Sequential | None:
    """Return the 1x1 shortcut (option B), or None where the identity fits."""
    if stride == 1 and channels == width:
        return None
    return nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))
