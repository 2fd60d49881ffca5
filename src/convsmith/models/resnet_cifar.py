"""The ResNets of the paper's CIFAR-10 study: 6n + 2 layers of 16, 32 and 64 maps, shortcuts without parameters."""

from __future__ import annotations

from torch import Tensor, nn

from convsmith.models.initialisation import he
from convsmith.models.stochastic_depth import BranchDrop


class CifarBlock(nn.Module):
    """Two 3x3 convolutions beside an identity; where maps halve, the shortcut skips pixels and pads channels (option A)."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.branch_drop = BranchDrop()
        self.shortcut = nn.Sequential()
        if channels != width:
            extra = (width - channels) // 2
            # pooling over one pixel with stride 2 is x[..., ::2, ::2] as a layer
            self.shortcut.append(nn.MaxPool2d(1, stride))
            self.shortcut.append(nn.ConstantPad3d((0, 0, 0, 0, extra, width - channels - extra), 0.0))
        self.relu2 = nn.ReLU()

    def forward(self, x_nchw: Tensor) -> Tensor:
        x = self.relu1(self.bn1(self.conv1(x_nchw)))
        x = self.branch_drop(self.bn2(self.conv2(x)))
        out: Tensor = self.relu2(x + self.shortcut(x_nchw))
        return out


class CifarResNet(nn.Module):
    """Classify small images with `depth` = 6n + 2 layers.

    Parameter names are those of the widely used checkpoints (layer1.0.conv1.weight ... linear.bias).

    Shapes: (batch, in_channels, height, width) -> (batch, classes).

    References: He, Zhang, Ren, Sun 2015, arXiv 1512.03385, section 4.2 and table 6.
    """

    def __init__(self, *, classes: int, in_channels: int, input_size: tuple[int, int], depth: int) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(in_channels, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = _stage(16, 16, blocks, 1)
        self.layer2 = _stage(16, 32, blocks, 2)
        self.layer3 = _stage(32, 64, blocks, 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(64, classes)
        he(self)

    def forward(self, x_nchw: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x_nchw)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(self.flatten(self.avgpool(x)))
        return logits


def _stage(channels: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    stage = nn.Sequential(CifarBlock(channels, width, stride))
    for _ in range(blocks - 1):
        stage.append(CifarBlock(width, width, 1))
    return stage
