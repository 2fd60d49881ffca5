"""Trained ternary quantization by hand, and its weights in the engine."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from convsmith import compiler, precision
from convsmith.errors import UsageError
from convsmith.formats import Format
from convsmith.interop import pytorch
from convsmith.precision import Plan, Rule
from convsmith.training.reproductions import binary

TERNARY = Format.integer(2, symmetric=True)


def ttq(layer: str) -> Rule:
    return Rule(layer, "weight", TERNARY, scale="tensor", pseudo_gradient="ttq")


def test_weights_and_both_magnitudes_move_as_the_paper_says() -> None:
    net = nn.Sequential(nn.Linear(5, 1, bias=False))
    w = np.array([1.0, 0.5, 0.05, -0.25, -0.04], np.float32)  # the threshold is 0.05 of the largest: 0.05 itself is zero
    with torch.no_grad():
        net[0].weight.copy_(torch.from_numpy(w)[None])
    emulated = precision.emulate(net, Plan((ttq("*"),)), torch.zeros(1, 5))
    (magnitudes,) = emulated.learned_steps.values()
    x, error = np.array([[1, 2, 4, 8, 16], [1, 0, 1, 0, 1]], np.float32), np.array([[0.5], [1.0]], np.float32)
    y = emulated(torch.from_numpy(x))
    assert magnitudes.tolist() == [0.75, 0.25], "they begin as the means of their parts"
    read = np.array([0.75, 0.75, 0, -0.25, 0])
    assert np.array_equal(y.detach().numpy()[:, 0], x @ read)
    y.backward(torch.from_numpy(error))
    gradient = (error * x).sum(0)
    assert np.array_equal(net[0].weight.grad.numpy()[0], gradient * np.array([0.75, 0.75, 1, 0.25, 1]))
    assert magnitudes.grad.tolist() == [gradient[:2].sum(), -gradient[3]]


def test_they_train_and_stay_packed_in_the_engine() -> None:
    """The engine adds whole sums times two floats, PyTorch floats one by one: 1e-6 of the largest times the root of the 180 terms."""
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(3, 20, 3, padding=1), nn.Hardtanh(), nn.Conv2d(20, 12, 3, padding=1), nn.BatchNorm2d(12)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 4)),
    )
    x, labels = torch.randn(64, 3, 8, 8), torch.arange(64) % 4
    x += labels.reshape(-1, 1, 1, 1) * 0.5
    plan = Plan((ttq("2"), binary.binary_activations("1")))
    emulated = precision.emulate(net, plan, x[:2])
    optimizer = precision.optimizer(torch.optim.Adam(emulated.parameters(), lr=0.01), emulated)
    (magnitudes,) = emulated.learned_steps.values()
    began, losses = magnitudes.detach().clone(), []
    for _ in range(40):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(emulated(x), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert not torch.equal(magnitudes, began) and magnitudes[0] != magnitudes[1]
    emulated.eval()
    with torch.no_grad():
        expected = emulated(x).numpy()
    emulated.write_learned()
    assert sorted(set(net[2].weight.flatten().tolist())) == sorted([-magnitudes[1].item(), 0.0, magnitudes[0].item()])
    signs = Plan((binary.binary_activations("1"),))
    program = compiler.build(pytorch.read(net.eval(), (1, 3, 8, 8)), signs)
    steps = [step for step in program.executable(tuple(x.shape)).steps if step.kind == "binary_convolution"]
    assert [step.detail.split()[0] for step in steps] == ["ternary", "ternary"]
    assert np.abs(program(x.numpy()) - expected).max() < 1e-6 * np.sqrt(180) * np.abs(expected).max()


def test_rules_that_cannot_be_say_what_they_need() -> None:
    needs = "pseudo_gradient 'ttq' learns two magnitudes of ternary weights: it needs int2:symmetric, with scale='tensor'"
    for given in (
        {"role": "weight", "format": Format.integer(4, symmetric=True), "scale": "tensor"},
        {"role": "weight", "format": TERNARY, "scale": "channel"},
        {"role": "activation", "format": TERNARY, "scale": "tensor"},
    ):
        with pytest.raises(UsageError, match=needs.replace("(", r"\(")):
            Rule("*", pseudo_gradient="ttq", **given)  # type: ignore[arg-type]
