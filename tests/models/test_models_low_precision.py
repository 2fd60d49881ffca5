"""Maxout, the binary perceptrons and the norm by shifts, against NumPy and the logarithm they stand for."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from convsmith import models
from convsmith.models.maxout import Maxout
from convsmith.models.shift_norm import PowerOfTwo, ShiftBatchNorm, nearest_power_of_two


def test_the_nearest_power_of_two_is_the_rounded_logarithm() -> None:
    rng = np.random.default_rng(0)
    x = (rng.uniform(1, 2, 2000) * 2.0 ** rng.integers(-120, 120, 2000) * rng.choice([-1, 1], 2000)).astype(np.float32)
    expected = np.array([math.copysign(2.0 ** round(math.log2(abs(float(v)))), v) for v in x], np.float32)
    assert np.array_equal(nearest_power_of_two(torch.from_numpy(x)).numpy(), expected)
    powers = torch.tensor([2.0**k for k in range(-126, 128)])
    assert torch.equal(nearest_power_of_two(powers), powers), "powers stay"
    assert nearest_power_of_two(torch.tensor([0.0, 2.0**-149])).tolist() == [0.0, 2.0**-149]


def test_the_power_passes_its_gradient() -> None:
    x = torch.tensor([0.3, -5.0], requires_grad=True)
    PowerOfTwo.apply(x).backward(torch.tensor([2.0, 3.0]))
    assert x.grad is not None and x.grad.tolist() == [2.0, 3.0]


def power(x: np.ndarray) -> np.ndarray:
    return np.sign(x) * 2.0 ** np.rint(np.log2(np.where(x == 0, 1, np.abs(x))))


@pytest.mark.parametrize("shape", [(16, 3), (4, 3, 5, 2)])
def test_shift_batch_norm_is_algorithm_3(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(2, 3, shape).astype(np.float32)
    norm = ShiftBatchNorm(3)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.7, 1.0, 3.0]))
        norm.bias.copy_(torch.tensor([0.0, -1.0, 0.5]))
    axes, view = (0, *range(2, x.ndim)), (1, -1, *(1,) * (x.ndim - 2))
    mean = x.astype(np.float64).mean(axes)
    centred = x - mean.reshape(view)
    variance = (centred * power(centred)).mean(axes)
    gain, shift = np.array([0.5, 1.0, 4.0]).reshape(view), np.array([0, -1, 0.5]).reshape(view)
    expected = centred * power(1 / np.sqrt(variance + 1e-4)).reshape(view) * gain + shift
    found = norm(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)  # means of float32
    np.testing.assert_allclose(norm.running_mean, 0.1 * mean, rtol=1e-4)
    np.testing.assert_allclose(norm.running_var, 0.9 + 0.1 * variance, rtol=1e-3)
    norm.eval()
    running = (x - 0.1 * mean.reshape(view)) * power(1 / np.sqrt(0.9 + 0.1 * variance + 1e-4)).reshape(view) * gain + shift
    np.testing.assert_allclose(norm(torch.from_numpy(x)).detach().numpy(), running, rtol=1e-4, atol=1e-5)


def test_maxout_takes_the_largest_of_its_pieces() -> None:
    torch.manual_seed(0)
    layer = Maxout(6, 4, 3)
    x = torch.randn(5, 6)
    weight, bias = layer.linear.weight.detach().numpy(), layer.linear.bias.detach().numpy()
    sums = x.numpy() @ weight.T + bias
    expected = np.stack([sums[:, 3 * unit : 3 * unit + 3].max(1) for unit in range(4)], 1)
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=1e-5, atol=1e-6)


def test_layers_of_the_binary_perceptron_are_named_for_plans() -> None:
    net = models.load("binarynet_mlp", classes=4, in_channels=1, input_size=(4, 4), hidden=(8, 8), dropout=0.5, norm="shift")
    names = [name for name, part in net.named_modules() if not list(part.children()) and name.startswith("layers.hidden1")]
    assert names == [f"layers.hidden1.{part}" for part in ("linear", "norm", "activation", "dropout")]
    assert [name for name, _ in net.layers.output.named_children()] == ["linear", "norm"]
    relu = models.load("binaryconnect_mlp", classes=4, in_channels=1, input_size=(4, 4), hidden=(8,))
    assert type(relu.layers.hidden1.activation).__name__ == "ReLU" and type(net.layers.hidden1.activation).__name__ == "Sign"


@pytest.mark.parametrize(
    ("name", "published"), [("larq_quicknet", 13_234_088), ("larq_quicknet_small", 12_655_688), ("larq_quicknet_large", 23_342_248)]
)
def test_the_quicknets_of_larq_have_the_published_size(name: str, published: int) -> None:
    """Larq's documentation counts every weight, and of the norm without factors in the stem the mean and the variance."""
    with torch.device("meta"):
        net = models.load(name, classes=1000, in_channels=3)
    bare = [part for part in net.modules() if isinstance(part, torch.nn.BatchNorm2d) and not part.affine]
    assert sum(p.numel() for p in net.parameters()) + sum(2 * part.num_features for part in bare) == published


def test_a_quicknet_of_larq_halves_by_maximum_and_blur() -> None:
    net = models.load("larq_quicknet", classes=4, in_channels=3, input_size=(32, 32), widths=(16, 32), depths=(1, 1))
    x = torch.randn(2, 16, 8, 8)
    halving = net.sections[1]
    found = halving.blur(halving.maximum(halving.relu(x))).detach().numpy()
    largest = np.maximum(x.numpy(), 0)
    largest = np.maximum(np.maximum(largest[..., :-1, :-1], largest[..., 1:, :-1]), np.maximum(largest[..., :-1, 1:], largest[..., 1:, 1:]))
    padded = np.pad(largest, ((0, 0), (0, 0), (1, 1), (1, 1)))  # 7 pixels to 4: TensorFlow's SAME pads one on each side
    line = np.array([1, 2, 1]) / 4
    expected = np.zeros((2, 16, 4, 4))
    for r in range(3):
        for s in range(3):
            expected += line[r] * line[s] * padded[..., r : r + 7 : 2, s : s + 7 : 2]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    assert not halving.blur.weight.requires_grad
    assert tuple(net.eval()(torch.randn(1, 3, 32, 32)).shape) == (1, 4)


def test_the_perceptron_of_gupta_starts_normal() -> None:
    torch.manual_seed(0)
    net = models.load("gupta_mlp", in_channels=1)
    weights = torch.cat([p.detach().flatten() for p in net.parameters() if p.ndim > 1])
    # a million and more draws: the standard deviation is known to 0.1 %, the mean to 1e-5
    assert abs(float(weights.std()) / 0.01 - 1) < 0.005 and abs(float(weights.mean())) < 5e-5
    assert all(float(p.detach().abs().max()) == 0 for p in net.parameters() if p.ndim == 1)
