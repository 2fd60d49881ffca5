"""What an image does in a network: against hooks, plain formulas, and closed forms."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from convsmith import models, training
from convsmith.data.preprocess import Preprocess, normalise, resize
from convsmith.errors import UsageError
from convsmith.training.explanation import activation_of, first_filters, grad_cam, shades

PREPROCESS = Preprocess(16, 16, 3)


def picture() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (20, 30, 3), np.uint8)


def network() -> nn.Sequential:
    torch.manual_seed(1)
    parts = {"conv": nn.Conv2d(3, 6, 3, padding=1), "norm": nn.BatchNorm2d(6), "relu": nn.ReLU(inplace=True), "pool": nn.MaxPool2d(2)}
    more = {"conv2": nn.Conv2d(6, 5, 3), "relu2": nn.ReLU(inplace=True), "mean": nn.AdaptiveAvgPool2d(1), "flat": nn.Flatten()}
    return nn.Sequential(OrderedDict({**parts, **more, "drop": nn.Dropout(0.5), "head": nn.Linear(5, 4)}))


def test_activations_are_those_of_each_layer_even_where_the_next_works_in_place() -> None:
    module = network().train()
    found = training.explain(module, picture(), PREPROCESS)
    assert module.training and module.drop.training
    x = torch.from_numpy(normalise(resize(picture(), PREPROCESS)[None], PREPROCESS))
    module.eval()
    with torch.no_grad():
        for seen, part in zip(found.activations, module, strict=True):
            x = (nn.ReLU() if isinstance(part, nn.ReLU) else part)(x.clone())
            value = x[0].double()
            assert seen.shape == tuple(value.shape) and seen.kind == type(part).__name__
            # float32 means of up to 1,536 numbers
            assert seen.mean == pytest.approx(float(value.mean()), abs=1e-5) and seen.std == pytest.approx(
                float(value.std(correction=0)), abs=1e-5
            )
            assert seen.minimum == float(value.min()) and seen.maximum == float(value.max())
            assert seen.zeros == pytest.approx(float((value == 0).double().mean()))
            assert sum(seen.counts) == value.numel()
    np.testing.assert_allclose(found.probabilities, x[0].softmax(0).numpy(), atol=1e-6)
    assert found.target == int(x[0].argmax())
    np.testing.assert_array_equal(found.image, resize(picture(), PREPROCESS))


def test_grad_cam_is_the_formula_of_the_paper() -> None:
    module = network()
    found = training.explain(module, picture(), PREPROCESS, target=2, layer="conv2")
    module.eval()
    x = torch.from_numpy(normalise(resize(picture(), PREPROCESS)[None], PREPROCESS))
    maps = module.conv2(module.pool(module.relu(module.norm(module.conv(x))))).detach().double()
    head = module.head.double()
    # the score is linear in relu(maps): its slope is the head's weight over the number of places where maps are positive
    slope = (head.weight[2] / (6 * 6)).reshape(1, 5, 1, 1) * (maps > 0)
    summed = (slope.mean((2, 3), keepdim=True) * maps).sum(1, keepdim=True).relu()
    expected = nn.functional.interpolate(summed, (16, 16), mode="bilinear")[0, 0]
    expected = expected / expected.max()
    np.testing.assert_allclose(found.heat, expected.detach().numpy(), atol=2e-5)
    assert found.heat.shape == (16, 16) and found.heat.max() == 1 and found.heat_layer == "conv2"


def test_nothing_speaks_for_a_class_whose_maps_only_speak_against_it() -> None:
    activation = torch.ones(1, 2, 3, 3, requires_grad=True)
    assert (grad_cam(-activation.sum(), activation, (6, 6)) == 0).all()
    assert training.explain(network(), picture(), PREPROCESS).heat_layer == "relu2"


def test_wrong_wishes_are_refused() -> None:
    with pytest.raises(UsageError, match="class 4 is not there; the network has classes 0 to 3"):
        training.explain(network(), picture(), PREPROCESS, target=4)
    with pytest.raises(UsageError, match=r"'conf2' is no layer with rows and columns. Did you mean 'conv2'"):
        training.explain(network(), picture(), PREPROCESS, layer="conf2")
    with pytest.raises(UsageError, match="no layer of this network has rows and columns"):
        training.explain(nn.Sequential(nn.Flatten(), nn.Linear(768, 2)), picture(), PREPROCESS)


def test_pictures_span_all_shades_and_constant_ones_are_black() -> None:
    assert shades(torch.tensor([[-1.0, 0.0, 1.0]])).tolist() == [[0, 128, 255]]
    assert shades(torch.full((2, 2), 7.0)).tolist() == [[0, 0], [0, 0]]
    seen = activation_of("a", "Conv2d", torch.stack([torch.zeros(4, 4), torch.ones(4, 4), -3 * torch.ones(4, 4)]), 2)
    assert seen.channels == (2, 1) and seen.maps[:, 0, 0].tolist() == [0, 255] and seen.silent == 1
    assert activation_of("b", "Linear", torch.zeros(5), 2).maps.size == 0
    name, filters = first_filters(network())
    assert name == "conv" and filters.shape == (6, 3, 3, 3) and filters.max() == 255 and filters.min() == 0
    assert first_filters(nn.Linear(2, 2))[1].size == 0


@pytest.mark.parametrize("name", ["smallnet", "resnet20", "mobilenet_v2", "squeezenet1_1"])
def test_networks_of_the_zoo_can_be_explained(name: str) -> None:
    torch.manual_seed(0)
    module = models.load(name, classes=3, in_channels=3, input_size=(32, 32))
    before = {key: value.clone() for key, value in module.state_dict().items()}
    found = training.explain(module, picture(), Preprocess(32, 32, 3), maps=4)
    assert found.heat.shape == (32, 32) and abs(found.probabilities.sum() - 1) < 1e-5
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())
