"""Networks that say where they are binary: their plan, and the engine against PyTorch's emulation of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from convsmith import compiler, data, formats, models, precision, training
from convsmith.errors import UsageError
from convsmith.formats import Format
from convsmith.interop import pytorch
from convsmith.jobs import sources
from convsmith.models.signs import Shift
from convsmith.precision import Plan, Rule
from convsmith.precision.binary_plan import binary_plan

NETWORKS: list[tuple[str, int, dict[str, Any], int]] = [
    # name, side, options, convolutions or products of signs in the engine
    ("binarynet_mlp", 12, {"hidden": (64, 32)}, 2),
    ("binarynet_cifar", 16, {"widths": (24, 40, 64), "hidden": (40,)}, 7),
    ("vgg_small", 16, {"widths": (16, 64, 70)}, 5),
    ("bireal18", 64, {"width": 16, "depths": (2, 2, 2)}, 6),
    ("reactnet_a", 64, {"widths": (16, 32, 64, 64)}, 8),
]


@pytest.mark.parametrize(("name", "side", "options", "count"), NETWORKS)
def test_networks_of_signs_are_in_the_engine_what_emulation_makes_of_them(
    name: str, side: int, options: dict[str, Any], count: int
) -> None:
    """Float32 layers between signs round in another order: 1e-5 of the largest score; no sign of these inputs is that close to 0."""
    torch.manual_seed(0)
    channels = 1 if name == "binarynet_mlp" else 3
    net = models.load(name, classes=10, in_channels=channels, input_size=(side, side), **options)
    x = torch.randn(4, channels, side, side)
    with torch.no_grad():
        net.train()(torch.randn(16, channels, side, side))
        for part in net.modules():
            if isinstance(part, Shift):
                part.bias.normal_(0, 0.3)
    net.eval()
    plan = binary_plan(net)
    emulated = precision.emulate(net, plan, x).eval()
    with torch.no_grad():
        expected = emulated(x).numpy()
    program = compiler.build(pytorch.read(net, tuple(x[:1].shape)), plan)
    kinds = [step.kind for step in program.executable(tuple(x.shape)).steps]
    assert kinds.count("binary_convolution") == count
    assert np.abs(program(x.numpy()) - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("kind", ["binary", "ternary"])
def test_scaled_signs_and_ternary_weights_stay_packed(kind: str) -> None:
    """XNOR-Net's scales are means of magnitudes; ternary weights of least squared error are those of TWN. As above, 1e-5."""
    torch.manual_seed(1)
    net = models.load("vgg_small", classes=10, in_channels=3, input_size=(16, 16), widths=(16, 40, 64))
    x = torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        net.train()(torch.randn(16, 3, 16, 16))
    net.eval()
    fmt = Format.binary() if kind == "binary" else Format.integer(2, symmetric=True)
    weights = [Rule(r.layer, "weight", fmt, scale="channel", range="mse") for r in binary_plan(net).rules if r.role == "weight"]
    plan = Plan((*weights, *(rule for rule in binary_plan(net).rules if rule.role == "activation")))
    with torch.no_grad():
        expected = precision.emulate(net, plan, x).eval()(x).numpy()
    program = compiler.build(pytorch.read(net, (1, 3, 16, 16)), plan)
    steps = [step for step in program.executable((4, 3, 16, 16)).steps if step.kind == "binary_convolution"]
    assert len(steps) == 5 and all(step.detail.startswith("signs" if kind == "binary" else "ternary") for step in steps)
    if kind == "binary":
        w = net.state_dict()["features.conv2.conv.weight"].numpy()
        rounded = formats.fit_mse(w, fmt, axis=0).scale
        assert np.allclose(rounded, np.abs(w).mean(axis=(1, 2, 3)), rtol=1e-6)
    assert np.abs(program(x.numpy()) - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.real_data
def test_on_ten_thousand_digits_the_engine_says_what_the_trained_network_says(real_data: Path) -> None:
    """Score by score: the last norm is float32 in both, computed in another order; 1e-5 of the largest score."""
    mnist = data.open(real_data / "data" / "mnist")
    torch.manual_seed(0)
    net = models.load("binarynet_mlp", classes=10, in_channels=1, input_size=(28, 28), hidden=(192, 192))
    plan = binary_plan(net)
    preprocess, _ = data.choose_preprocess(mnist)
    training.fit(
        net, mnist, training.Training(epochs=0.3, plan=plan.to_dict(), optimizer="adam", learning_rate=0.003), preprocess=preprocess
    )
    net.eval()
    x = sources.pixels(mnist.test, preprocess, 0, 0)[0]
    emulated = precision.emulate(net, plan, torch.from_numpy(x[:2])).eval()
    with torch.no_grad():
        expected = emulated(torch.from_numpy(x)).numpy()
    scores = compiler.build(pytorch.read(net, (1, 1, 28, 28)), plan)(x)
    assert len(x) == 10_000
    assert np.abs(scores - expected).max() < 1e-5 * np.abs(expected).max()


def test_without_signs_of_activations_only_weights_are_binary() -> None:
    net = models.load("vgg_small", classes=10, in_channels=3, input_size=(8, 8), widths=(4, 4, 4))
    plan = binary_plan(net, activations=False)
    assert {rule.role for rule in plan.rules} == {"weight"} and len(plan.rules) == 5
    assert [rule.layer for rule in binary_plan(net).rules if rule.role == "activation"] == [f"features.conv{i}.sign" for i in range(1, 7)]


def test_a_network_without_layers_of_signs_is_refused() -> None:
    net = models.load("lenet5", classes=10, in_channels=1, input_size=(28, 28))
    with pytest.raises(
        UsageError, match=r"LeNet5 has no layers of signs; those of the zoo that have are .*vgg_small, bireal18, reactnet_a"
    ):
        binary_plan(net)
