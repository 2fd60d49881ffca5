"""Parameters and multiply-adds against what the papers and torchvision's documentation print.

Networks are built on the meta device: shapes without arithmetic, so VGG and ResNet-101 count in milliseconds.
"""

from __future__ import annotations

from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from counting import macs, parameters
from torch import nn

from convsmith import models

PUBLISHED = [name for name, entry in models.ZOO.items() if entry.parameters is not None]
UNITS = {"K": 3, "M": 6, "G": 9}


def published(name: str, **options: object) -> nn.Module:
    """The network as its source has it, without memory for its weights."""
    entry = models.ZOO[name]
    with torch.device("meta"):
        return models.load(name, classes=entry.classes, in_channels=entry.input[0], input_size=entry.input[1:], **options)


def as_printed(count: int, text: str) -> str:
    """`count` written with the unit and the digits of `text`, for example 269722 as 0.27M."""
    if text[-1] not in UNITS:
        return str(count)
    exponent = UNITS[text[-1]]
    digits = len(text[:-1].partition(".")[2])
    return f"{Decimal(count).scaleb(-exponent):.{digits}f}{text[-1]}"


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_are_the_published_ones(name: str) -> None:
    entry, network = models.ZOO[name], published(name)
    assert parameters(network) == entry.parameters
    assert macs(network, entry.input) == entry.macs
    if entry.published_parameters:
        assert as_printed(parameters(network), entry.published_parameters) == entry.published_parameters
    if entry.published_macs:
        assert as_printed(macs(network, entry.input), entry.published_macs) == entry.published_macs


def test_the_counter_agrees_with_arithmetic() -> None:
    # 3x3 from 3 to 8 maps on 10x10, then 1x1 in two groups to 6 maps, then 600 -> 5
    stack = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 6, 1, groups=2, bias=False), nn.Flatten(), nn.Linear(600, 5))
    assert macs(stack, (3, 10, 10)) == 100 * 3 * 9 * 8 + 100 * 4 * 6 + 600 * 5
    assert parameters(stack) == 3 * 9 * 8 + 8 + 4 * 6 + 600 * 5 + 5


def test_lenet_layers_are_those_of_the_paper() -> None:
    # LeCun et al. 1998, section II.B: C1 156, C5 48,120, F6 10,164 trainable parameters, 60,000 in all
    network = published("lenet5")
    layers = {name: parameters(layer) for name, layer in network.named_children() if parameters(layer)}
    assert layers == {"c1": 156, "c3": 2416, "c5": 48120, "f6": 10164, "classifier": 850}
    c3_of_table_1, subsampling = 1516, 12 + 32
    assert 156 + c3_of_table_1 + 48120 + 10164 + subsampling == 60000
    # and C1 has 122,304 connections with its biases
    assert 28 * 28 * 6 * (25 + 1) == 122304


@pytest.mark.parametrize(("width", "mult_adds", "million"), [(0.75, "325M", "2.6M"), (0.5, "149M", "1.3M"), (0.25, "41M", "0.5M")])
def test_mobilenet_v1_width_multiplier(width: float, mult_adds: str, million: str) -> None:
    # Howard et al. 2017, arXiv 1704.04861, table 6
    network = published("mobilenet_v1", width=width)
    assert as_printed(macs(network, (3, 224, 224)), mult_adds) == mult_adds
    assert as_printed(parameters(network), million) == million


@pytest.mark.parametrize(
    ("width", "mult_adds", "million"),
    [(1.4, "582M", "6.06M"), (1.3, "509M", "5.34M"), (0.75, "209M", "2.61M"), (0.5, "97M", "1.95M"), (0.35, "59M", "1.66M")],
)
def test_mobilenet_v2_width_multiplier(width: float, mult_adds: str, million: str) -> None:
    # the authors' table of checkpoints, github.com/tensorflow/models, research/slim/nets/mobilenet; it leaves batch norm out
    network = published("mobilenet_v2", width=width)
    norm = sum(parameters(layer) for layer in network.modules() if isinstance(layer, nn.BatchNorm2d))
    assert as_printed(macs(network, (3, 224, 224)), mult_adds) == mult_adds
    assert as_printed(parameters(network) - norm, million) == million


def test_googlenet_with_its_auxiliary_heads() -> None:
    # torchvision.models.googlenet(aux_logits=True) has 13,004,888 parameters; at evaluation the heads cost nothing
    network = published("googlenet", aux=True)
    assert parameters(network) == 13004888
    assert macs(network, (3, 224, 224)) == models.ZOO["googlenet"].macs


def test_vgg_parameters_in_millions() -> None:
    # Simonyan, Zisserman 2014, table 2: A 133, B 133, C 134, D 138, E 144
    millions = [round(parameters(published(name)) / 1e6) for name in ("vgg11", "vgg13", "vgg16c", "vgg16", "vgg19")]
    assert millions == [133, 133, 134, 138, 144]


def test_groups_list_every_name_once() -> None:
    grouped = models.names()
    assert sorted(name for group in grouped.values() for name in group) == sorted(models.ZOO)
    assert grouped["squeezenet"] == ("squeezenet1_0", "squeezenet1_1")


@pytest.mark.extra
@pytest.mark.skipif(find_spec("torchvision") is None, reason="torchvision is not installed")
def test_the_numbers_of_torchvision() -> None:
    from convsmith.models.torchvision_guard import guard

    guard()
    from torchvision.models import get_model_weights

    names = [name for name in PUBLISHED if models.ZOO[name].source.startswith("torchvision")]
    assert len(names) == 17
    for name in names:
        meta = next(iter(get_model_weights(name))).meta
        assert meta["num_params"] == models.ZOO[name].parameters, name
        assert f"{models.ZOO[name].macs / 1e9:.3f}" == f"{meta['_ops']:.3f}", name


def test_the_document_shows_the_zoo() -> None:
    text = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
    for name, entry in models.ZOO.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        assert entry.source in row
        if entry.parameters is not None and entry.macs is not None:
            assert f"| {entry.parameters:,} | {entry.macs:,} |" in row
