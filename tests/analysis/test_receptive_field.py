"""Receptive fields against what gradients really reach, and against closed forms."""

from __future__ import annotations

import published_nets
import pytest
import torch
from torch import nn

from convsmith.analysis import Field, analyse
from convsmith.interop import pytorch


def positive(module: nn.Module) -> nn.Module:
    """Make every path count: positive weights, and averages where a maximum would pick one path."""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.MaxPool2d):
            setattr(module, name, nn.AvgPool2d(child.kernel_size, child.stride, child.padding, child.ceil_mode))
        elif isinstance(child, nn.BatchNorm2d):
            setattr(module, name, nn.Identity())
        else:
            positive(child)
    for parameter in module.parameters():
        parameter.data = torch.rand(parameter.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.1 + 0.01
    return module.eval()


def reached(module: nn.Module, shape: tuple[int, ...], row: int, column: int) -> tuple[int, int, int, int]:
    """Return first row, last row, first column and last column of the image that one output value depends on."""
    x = torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    module(x)[0, :, row, column].sum().backward()
    assert x.grad is not None
    mask = x.grad[0].abs().sum(0) > 0
    rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
    return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])


def expected(field: Field, size: tuple[int, int], row: int, column: int) -> tuple[int, int, int, int]:
    """Return the same from the field, cut at the border of the image."""
    limits = []
    for axis, index in enumerate((row, column)):
        start = field.offset[axis] + index * field.stride[axis]
        limits += [max(0, start), min(size[axis] - 1, start + field.size[axis] - 1)]
    return limits[0], limits[1], limits[2], limits[3]


class Inception(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 2, 1)
        self.five = nn.Conv2d(3, 2, (5, 3), padding=(2, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.one(x), self.five(x)], 1) + torch.cat([self.five(x), self.one(x)], 1)


class Strided(nn.Module):
    """The parameter-free shortcut of CIFAR ResNets beside a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, stride=2, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x) + nn.functional.pad(x[:, :2, ::2, ::2], (0, 0, 0, 0, 0, 1))


NETWORKS = {
    "strides": lambda: nn.Sequential(nn.Conv2d(3, 4, 5, stride=2, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(4, 2, 3, padding=1)),
    "dilation": lambda: nn.Sequential(nn.Conv2d(3, 4, (3, 2), dilation=(2, 3), padding=(2, 0)), nn.Conv2d(4, 2, 3, stride=(1, 2))),
    "padding": lambda: nn.Sequential(nn.ZeroPad2d((2, 1, 0, 2)), nn.Conv2d(3, 2, 3, stride=2)),
    "inception": lambda: nn.Sequential(Inception(), nn.AvgPool2d(2)),
    "shortcut": lambda: nn.Sequential(Strided(), Strided()),
    "ceiling": lambda: nn.Sequential(nn.MaxPool2d(3, 2, ceil_mode=True), nn.Conv2d(3, 2, 3)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_field_is_what_gradients_reach(name: str) -> None:
    torch.manual_seed(0)
    module, size = positive(NETWORKS[name]()), (33, 29)
    result = analyse(pytorch.read(module, (1, 3, *size)))
    layer = result.layers[-1]
    assert layer.field is not None
    rows, columns = layer.output_shape[2:]
    middle = rows // 2, columns // 2
    assert reached(module, (1, 3, *size), *middle) == expected(layer.field, size, *middle)
    for row, column in ((0, 0), (rows - 1, columns - 1)):
        # near the border an inner layer's padding stands where the image would go on: less is reached, never more
        inner, outer = reached(module, (1, 3, *size), row, column), expected(layer.field, size, row, column)
        assert outer[0] <= inner[0] <= inner[1] <= outer[1] and outer[2] <= inner[2] <= inner[3] <= outer[3]


@pytest.mark.parametrize(
    ("name", "node", "size", "stride"),
    [
        # Araujo, Norris, Sim 2019, table 1 (doi 10.23915/distill.00021): fields and strides before the last pooling
        ("alexnet", "features.12", 195, 32),
        ("vgg16", "features.30", 212, 32),
        # 483 there, with the stride in the first 1x1; here in the 3x3, which then adds 8, 16 and 32 pixels less
        ("resnet50", "layer4.2.relu3", 483 - 8 - 16 - 32, 32),
    ],
)
def test_fields_of_the_literature(name: str, node: str, size: int, stride: int) -> None:
    field = published_nets.report(name).layer(node).field
    assert field is not None
    assert (field.size, field.stride) == ((size, size), (stride, stride))


class Gate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x) * torch.sigmoid(x.mean((2, 3), keepdim=True))


def test_a_gate_sees_the_whole_image() -> None:
    field = analyse(pytorch.read(Gate().eval(), (1, 3, 8, 8))).layers[-1].field
    assert field == Field((9, 9), (1, 1), (-1, -1))


def test_transposed_axes_are_followed() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 4, 4), nn.LayerNorm(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(self.conv(x).permute(0, 2, 3, 1))

    field = analyse(pytorch.read(Tokens().eval(), (1, 3, 8, 8))).layers[-1].field
    assert field == Field((4, 4), (4, 4), (0, 0), (1, 2))


def test_after_upsampling_no_field_is_claimed() -> None:
    module = nn.Sequential(nn.ConvTranspose2d(3, 3, 2, 2), nn.Conv2d(3, 3, 3))
    assert [layer.field for layer in analyse(pytorch.read(module.eval(), (1, 3, 8, 8))).layers] == [None, None]
