"""Costs against hand-computed stacks, published totals and a counter that hooks into torch."""

from __future__ import annotations

import json
from collections.abc import Callable

import published_nets
import pytest
import torch
from torch import nn

from convsmith import models
from convsmith.analysis import Report, analyse
from convsmith.interop import pytorch


def report(*layers: nn.Module, shape: tuple[int, ...] = (1, 8, 16, 16), batch: int = 1) -> Report:
    return analyse(pytorch.read(nn.Sequential(*layers).eval(), shape), batch)


def conv(inputs: int, outputs: int, kernel: int | tuple[int, int], groups: int = 1) -> nn.Conv2d:
    sides = (kernel, kernel) if isinstance(kernel, int) else kernel
    return nn.Conv2d(inputs, outputs, kernel, padding=(sides[0] // 2, sides[1] // 2), bias=False, groups=groups)


C = 8


@pytest.mark.parametrize(
    ("layers", "weights", "sees"),
    [
        # Simonyan and Zisserman 2015, arXiv:1409.1556, section 2.3: 3 (3^2 C^2) = 27 C^2 against 7^2 C^2 = 49 C^2
        ([conv(C, C, 3)] * 2, 18 * C**2, (5, 5)),
        ([conv(C, C, 3)] * 3, 27 * C**2, (7, 7)),
        ([conv(C, C, 7)], 49 * C**2, (7, 7)),
        # He et al. 2016, arXiv:1512.03385: 1x1 to C/2, 3x3, 1x1 back: C^2/2 + 9 C^2/4 + C^2/2
        ([conv(C, C // 2, 1), conv(C // 2, C // 2, 3), conv(C // 2, C, 1)], int(3.25 * C**2), (3, 3)),
        # Szegedy et al. 2016, arXiv:1512.00567, section 3.2: 1x3 then 3x1
        ([conv(C, C, (1, 3)), conv(C, C, (3, 1))], 6 * C**2, (3, 3)),
        # Howard et al. 2017, arXiv:1704.04861, equation 5: depthwise 9 C, pointwise C^2
        ([conv(C, C, 3, groups=C), conv(C, C, 1)], 9 * C + C**2, (3, 3)),
    ],
    ids=["two_3x3", "three_3x3", "one_7x7", "bottleneck", "asymmetric", "separable"],
)
def test_stacks_of_the_literature(layers: list[nn.Module], weights: int, sees: tuple[int, int]) -> None:
    result = report(*[type(layer)(**arguments(layer)) for layer in layers])
    assert result.parameters == weights
    assert result.macs == weights * 16 * 16  # padding keeps 16 x 16 outputs, each weight once an output
    field = result.layers[-1].field
    assert field is not None and field.size == sees and field.stride == (1, 1)


def arguments(layer: nn.Module) -> dict[str, object]:
    assert isinstance(layer, nn.Conv2d)
    names = ("in_channels", "out_channels", "kernel_size", "padding", "groups")
    return {name: getattr(layer, name) for name in names} | {"bias": False}


def test_numbers_of_one_layer_by_hand() -> None:
    result = report(nn.Conv2d(8, 4, 3, stride=2, padding=1), batch=5)
    (layer,) = result.layers
    assert layer.output_shape == (5, 4, 8, 8)
    assert layer.parameters == 4 * 8 * 9 + 4
    assert layer.macs == 5 * 4 * 64 * 72
    assert layer.activation_bytes == 4 * 5 * 4 * 64
    assert layer.traffic_bytes == 4 * (5 * 8 * 256 + 292 + 5 * 4 * 64)
    assert layer.intensity == 2 * layer.macs / layer.traffic_bytes
    assert result.weight_bytes == 4 * 292
    assert result.peak.activation_bytes == 4 * (5 * 8 * 256 + 5 * 4 * 64)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = conv(8, 8, 3), conv(8, 8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x)
        return y + torch.flatten(self.second(y).relu(), 1).view(y.shape)


def test_peak_memory_holds_the_shortcut_and_counts_views_once() -> None:
    result = analyse(pytorch.read(Residual().eval(), (1, 8, 16, 16)))
    image = 4 * 8 * 256
    # while relu runs: the shortcut, its input and its output; the two views add nothing
    assert (result.peak.activation_bytes, result.peak.node) == (3 * image, "relu")
    assert result.activation_bytes == 6 * image


def test_shared_weights_count_once_and_statistics_never() -> None:
    shared = nn.Conv2d(8, 8, 3, padding=1)
    assert report(shared, nn.BatchNorm2d(8), shared).parameters == (8 * 8 * 9 + 8) + 16


PUBLISHED = {
    # parameters and MACs of the torchvision documentation, "num_params" and "GFLOPS" of the weights named IMAGENET1K_V1
    # (https://docs.pytorch.org/vision/stable/models.html); there a multiply-accumulate is one operation
    "alexnet": (61_100_840, 0.71),
    "vgg16": (138_357_544, 15.47),
    "resnet50": (25_557_032, 4.09),
    "squeezenet1_1": (1_235_496, 0.35),
    "mobilenet_v2": (3_504_872, 0.30),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_totals_are_the_published_ones(name: str) -> None:
    parameters, billions = PUBLISHED[name]
    result = published_nets.report(name)
    assert result.parameters == parameters
    assert round(result.macs / 1e9, 2) == billions


def hooked_macs(module: nn.Module, x: torch.Tensor) -> int:
    """Count products in convolutions and linear layers from the tensors that pass, another way than the graph."""
    total = 0

    def count(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(layer, nn.Conv2d):
            total += output.numel() * layer.kernel_size[0] * layer.kernel_size[1] * layer.in_channels // layer.groups
        elif isinstance(layer, nn.Linear):
            total += inputs[0].numel() * layer.out_features

    handles = [part.register_forward_hook(count) for part in module.modules()]
    with torch.no_grad():
        module(x)
    for handle in handles:
        handle.remove()
    return total


@pytest.mark.parametrize(("name", "size"), [("smallnet", 28), ("squeezenet1_0", 64), ("mobilenet_v1", 64), ("resnet20", 32), ("nin", 32)])
def test_totals_are_those_of_a_hooked_counter(name: str, size: int) -> None:
    module = models.load(name, classes=10, in_channels=3, input_size=(size, size)).eval()
    result = analyse(pytorch.read(module, (1, 3, size, size)), batch=2)
    assert result.macs == hooked_macs(module, torch.zeros(2, 3, size, size))
    assert result.parameters == sum(parameter.numel() for parameter in module.parameters())


def test_products_are_counted_in_transposed_convolutions_and_matrices() -> None:
    result = report(nn.ConvTranspose2d(8, 4, 3, 2, bias=False), nn.Linear(33, 5))
    assert [layer.macs for layer in result.layers] == [8 * 256 * 4 * 9, 4 * 33 * 33 * 5, 0]
    assert result.parameters == 8 * 4 * 9 + 33 * 5 + 5


def test_table_and_dictionary_say_the_same() -> None:
    result = report(conv(8, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(512, 10))
    assert result.table().splitlines() == [
        "layer  operator  output     parameters    MACs  memory  sees  stride  starts  ops/byte",
        "-" * 86,
        "0      Conv      1x8x16x16         576   147 k   8 KiB     3       1      -1      15.8",
        "1      Relu      1x8x16x16                       8 KiB     3       1      -1",
        "2      MaxPool   1x8x8x8                         2 KiB     4       2      -1",
        "3      Flatten   1x512                           2 KiB    18              -1",
        "4      Gemm      1x10            5,130  5.12 k    40 B    18              -1       0.5",
        "-" * 86,
        "total                            5,706   153 k  20 KiB                             4.2",
        "sequential: input 1x8x16x16, peak activation memory 16 KiB at 0, weights 22.3 KiB",
    ]
    plain = json.loads(json.dumps(result.to_dict()))
    assert plain["totals"]["parameters"] == 5706
    assert plain["layers"][2] | {"field": None} == {
        "name": "2",
        "op": "MaxPool",
        "output_shape": [1, 8, 8, 8],
        "parameters": 0,
        "macs": 0,
        "activation_bytes": 2048,
        "traffic_bytes": 10240,
        "weight_bytes": 0,
        "field": None,
        "intensity": 0.0,
    }
    assert plain["layers"][2]["field"] == {"size": [4, 4], "stride": [2, 2], "offset": [-1, -1], "axes": [2, 3]}


@pytest.mark.parametrize("build", [lambda: nn.Sequential(nn.Linear(4, 3)), lambda: nn.Sequential(nn.ReLU())])
def test_networks_without_images_are_analysed(build: Callable[[], nn.Module]) -> None:
    result = analyse(pytorch.read(build().eval(), (1, 4)))
    assert result.layers[0].field is None
    assert " ?" in result.table()
