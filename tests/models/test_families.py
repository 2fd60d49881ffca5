"""Every architecture learns, runs in both memory layouts and exports; blocks against their definitions."""

from __future__ import annotations

import math
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from convsmith import models
from convsmith.models.googlenet import Scores
from convsmith.models.initialisation import glorot, he, lecun
from convsmith.models.pooling import average_to
from convsmith.models.resnet_cifar import CifarBlock
from convsmith.models.same_padding import SameConv2d


def smallest(name: str, classes: int = 5) -> tuple[nn.Module, tuple[int, int, int]]:
    """The network at the smallest input that the zoo promises for it, and that input's shape."""
    entry = models.ZOO[name]
    side = max(entry.smallest, 4)
    torch.manual_seed(0)
    network = models.load(name, classes=classes, in_channels=entry.input[0], input_size=(side, side))
    return network, (entry.input[0], side, side)


@pytest.mark.parametrize("name", models.ZOO)
def test_forward_and_backward_at_the_smallest_input(name: str) -> None:
    network, shape = smallest(name)
    logits = network(torch.randn(3, *shape))
    assert logits.shape == (3, 5)
    functional.cross_entropy(logits, torch.tensor([0, 1, 4])).backward()
    for key, parameter in network.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, key
        assert parameter.grad is None or bool(torch.isfinite(parameter.grad).all()), key


@pytest.mark.parametrize("name", [group[0] for group in models.names().values()])
def test_channels_last_gives_the_same_scores(name: str) -> None:
    network, shape = smallest(name)
    x_nchw = torch.randn(2, *shape)
    with torch.inference_mode():
        expected = network.eval()(x_nchw)
        given = network.to(memory_format=torch.channels_last)(x_nchw.to(memory_format=torch.channels_last))
    # only the order of float32 sums may differ
    torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [*(group[-1] for group in models.names().values()), "vgg16c", "mobilenet_v1"])
def test_export_keeps_the_scores_for_any_batch(name: str) -> None:
    network, shape = smallest(name)
    network.eval()
    program = torch.export.export(network, (torch.randn(2, *shape),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    x_nchw = torch.randn(5, *shape)
    with torch.inference_mode():
        torch.testing.assert_close(program.module()(x_nchw), network(x_nchw))


@pytest.mark.parametrize(
    ("name", "size"), [("lenet5", (28, 40)), ("alexnet", (63, 100)), ("vgg11", (32, 70)), ("mlp", (3, 5)), ("photonet", (50, 33))]
)
def test_oblong_inputs_and_other_channels(name: str, size: tuple[int, int]) -> None:
    network = models.load(name, classes=3, in_channels=2, input_size=size).eval()
    with torch.inference_mode():
        assert network(torch.zeros(1, 2, *size)).shape == (1, 3)


def test_googlenet_gives_three_scores_while_it_trains() -> None:
    network = models.load("googlenet", aux=True, input_size=(32, 32))
    scores = network(torch.randn(2, 3, 32, 32))
    assert isinstance(scores, Scores)
    assert [part.shape for part in scores] == [(2, 10)] * 3
    assert network.eval()(torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_googlenet_of_the_paper_has_a_5x5_branch() -> None:
    branch = models.load("googlenet", large=5).get_submodule("inception3a.branch3.1.conv")
    assert isinstance(branch, nn.Conv2d)
    assert branch.weight.shape == (32, 16, 5, 5)


@pytest.mark.parametrize("side", [7, 8])
def test_cifar_shortcut_skips_pixels_and_pads_channels(side: int) -> None:
    x_nchw = torch.randn(2, 16, side, side)
    expected = torch.zeros(2, 32, math.ceil(side / 2), math.ceil(side / 2))
    expected[:, 8:24] = x_nchw[:, :, ::2, ::2]
    assert torch.equal(CifarBlock(16, 32, 2).shortcut(x_nchw), expected)


@pytest.mark.parametrize("side", [5, 6, 7, 8, 224])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (2, 2), (5, 3), (1, 2)])
def test_same_padding_is_the_formula_of_tensorflow(side: int, kernel: int, stride: int) -> None:
    convolution = SameConv2d(2, 3, kernel, stride)
    x_nchw = torch.randn(1, 2, side, side + 1)
    # "Notes on padding": by the remainder of the side, the odd pixel after
    pads = []
    for length in (side + 1, side):
        total = max(kernel - stride, 0) if length % stride == 0 else max(kernel - length % stride, 0)
        pads += [total // 2, total - total // 2]
    expected = functional.conv2d(functional.pad(x_nchw, pads), convolution.weight, convolution.bias, stride)
    assert expected.shape[2:] == (math.ceil(side / stride), math.ceil((side + 1) / stride))
    torch.testing.assert_close(convolution(x_nchw), expected)


@pytest.mark.parametrize("given", [(6, 6), (12, 6), (7, 13), (3, 9), (1, 1)])
def test_average_to_equals_adaptive_pooling_and_never_stretches(given: tuple[int, int]) -> None:
    layer, size = average_to(given, (6, 6))
    x_nchw = torch.randn(2, 3, *given)
    assert size == (min(given[0], 6), min(given[1], 6))
    torch.testing.assert_close(layer(x_nchw), functional.adaptive_avg_pool2d(x_nchw, size))


def test_starts_have_the_spread_of_the_papers() -> None:
    torch.manual_seed(1)
    wide, depthwise, dense = nn.Conv2d(64, 128, 3), nn.Conv2d(512, 512, 3, groups=512), nn.Linear(1000, 500)
    he(nn.Sequential(wide, depthwise, dense))
    # sample deviations of n draws are within 4 / sqrt(2 n) of the truth, 1.5 % and 4.2 % here
    assert np.isclose(wide.weight.std().item(), math.sqrt(2 / (128 * 9)), rtol=0.015)
    assert np.isclose(depthwise.weight.std().item(), math.sqrt(2 / 9), rtol=0.042)
    assert np.isclose(dense.weight.std().item(), math.sqrt(2 / 1000), rtol=0.015)
    glorot(dense)
    bound = math.sqrt(6 / 1500)
    assert 0.999 * bound < dense.weight.abs().max().item() <= bound
    lecun(wide)
    assert 0.999 * 2.4 / 576 < wide.weight.abs().max().item() <= 2.4 / 576
    assert not wide.bias.any()
    assert not dense.bias.any()


@pytest.mark.extra
@pytest.mark.skipif(find_spec("torchvision") is None, reason="torchvision is not installed")
@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("alexnet", 224),
        ("vgg11", 224),
        ("vgg13_bn", 224),
        ("googlenet", 96),
        ("squeezenet1_0", 97),
        ("squeezenet1_1", 97),
        ("mobilenet_v2", 65),
        ("resnet18", 65),
        ("resnet101", 64),
    ],
)
def test_the_weights_of_torchvision_give_its_scores(name: str, side: int) -> None:
    from convsmith.models.torchvision_guard import guard

    guard()
    import torchvision

    torch.manual_seed(2)
    theirs = getattr(torchvision.models, name)(init_weights=False, aux_logits=False) if name == "googlenet" else None
    if theirs is None:
        quick = {"init_weights": False} if name.startswith("vgg") else {}
        theirs = getattr(torchvision.models, name)(**quick)
    for key, value in theirs.state_dict().items():
        if key.endswith("running_var"):
            value.uniform_(0.5, 2.0)
        elif key.endswith("running_mean"):
            value.normal_()
    with torch.device("meta"):
        ours = models.load(name, classes=1000, input_size=(side, side))
    ours.load_state_dict(theirs.state_dict(), assign=True)
    x_nchw = torch.randn(2, 3, side, side)
    with torch.inference_mode():
        expected = theirs.eval()(x_nchw)
        given = ours.eval()(x_nchw)
    # the same operations in the same order: float32 rounding only where kernels differ
    torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())


@pytest.mark.extra
@pytest.mark.skipif(find_spec("timm") is None or find_spec("torchvision") is None, reason="timm is not installed")
def test_timm_names_load_through_the_guard() -> None:
    network = models.load("timm/resnet10t", classes=4, in_channels=1, input_size=(64, 64)).eval()
    with torch.inference_mode():
        assert network(torch.zeros(1, 1, 64, 64)).shape == (1, 4)
    transformer = models.load("timm/vit_tiny_patch16_224", classes=4, in_channels=3, input_size=(32, 48)).eval()
    with torch.inference_mode():
        assert transformer(torch.zeros(1, 3, 32, 48)).shape == (1, 4)


@pytest.mark.extra
@pytest.mark.skipif(find_spec("timm") is None or find_spec("torchvision") is None, reason="timm is not installed")
def test_timm_does_not_know_the_name() -> None:
    from convsmith.errors import UsageError

    with pytest.raises(UsageError, match=r"timm has no model 'resnet10x'\. Did you mean 'resnet1\d.'\? See timm\.list_models\(\)"):
        models.load("timm/resnet10x")
    with pytest.raises(UsageError, match=r"timm/resnet10t has no option 'widht'"):
        models.load("timm/resnet10t", widht=2)
    with pytest.raises(UsageError, match=r"timm/test_vit3\.none cannot be built: Invalid pretrained tag"):
        models.load("timm/test_vit3.none", pretrained=True)
