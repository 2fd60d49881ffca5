"""What the recipes of the low-precision papers ask of training: scaled rates, limited norms, rising momentum, AdaMax by shifts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from convsmith import precision
from convsmith.errors import DivergenceError, UsageError
from convsmith.formats import Format
from convsmith.precision import Plan, Rule
from convsmith.training import Schedule, Training, fit
from convsmith.training.optimizers import ShiftAdamax, build, glorot_factor, limit_norm
from convsmith.training.schedules import factor
from convsmith.training.updates import momentum


def test_glorot_factors() -> None:
    assert glorot_factor(torch.zeros(1024, 784)) == math.sqrt((1024 + 784) / 1.5)
    assert glorot_factor(torch.zeros(128, 64, 3, 3)) == math.sqrt((128 + 64) * 9 / 1.5)
    net = nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2), nn.Linear(2, 3))
    for optimizer, power in (("adam", 1), ("sgd", 2)):
        config = Training(optimizer=optimizer, rate_scale="glorot", weight_decay=0.0)
        groups = build(net, config).param_groups
        factors = {id(p): group.get("factor", 1.0) for group in groups for p in group["params"]}
        expected = [math.sqrt(6 / 1.5) ** power, 1.0, 1.0, 1.0, math.sqrt(5 / 1.5) ** power, 1.0]
        assert [factors[id(p)] for p in net.parameters()] == pytest.approx(expected)
    with pytest.raises(ValidationError, match="rate_scale is for networks trained from scratch"):
        Training(rate_scale="glorot", transfer={"strategy": "linear"})


def test_norms_are_limited_and_small_ones_left_alone() -> None:
    w = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    bias = torch.tensor([9.0])
    limit_norm(w, 1.0)
    limit_norm(bias, 1.0)
    torch.testing.assert_close(w, torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]]))
    assert bias.tolist() == [9.0]


def test_a_run_keeps_its_norms_within_the_limit(make_net, dataset, preprocess) -> None:
    config = Training(epochs=2, learning_rate=0.5, max_norm=0.3, deterministic=True, batch=20)
    found = fit(make_net(), dataset, config, preprocess=preprocess)
    norms = [p.detach().flatten(1).norm(dim=1).max() for p in found.module.parameters() if p.ndim > 1]
    assert max(norms) <= 0.3 * (1 + 1e-6) and max(norms) > 0.299


def test_momentum_rises_and_stays() -> None:
    config = Training(momentum=0.7, momentum_start=0.5, momentum_rise=0.25)
    assert [momentum(config, p) for p in (0.0, 0.125, 0.25, 1.0)] == pytest.approx([0.5, 0.6, 0.7, 0.7])
    assert momentum(Training(momentum=0.9), 0.0) == 0.9


def test_the_linear_schedule_settles() -> None:
    schedule = Schedule(kind="linear", floor=0.1, settle=0.5)
    # Courbariaux et al. 2014: from the rate to a tenth of it over the first half of the run
    assert [factor(schedule, t, 800) for t in (0, 200, 400, 800)] == pytest.approx([1, 0.55, 0.1, 0.1])


@pytest.mark.parametrize("planned", [False, True], ids=["torch", "rounded to float32"])
def test_shift_adamax_is_algorithm_4(planned: bool) -> None:
    rng = np.random.default_rng(2)
    net = nn.Sequential(nn.Linear(6, 3, bias=False))
    w = net[0].weight.detach().numpy().astype(np.float64)
    optimizer = ShiftAdamax(net.parameters(), lr=2.0**-7, betas=(1 - 2.0**-3, 1 - 2.0**-10))
    stepper = optimizer
    if planned:
        emulated = precision.emulate(net, Plan((Rule("*", "update", Format.float(8, 22)),)), torch.zeros(2, 6))
        stepper = precision.optimizer(optimizer, emulated)
    first, largest = np.zeros_like(w), np.zeros_like(w)

    def power(x: np.ndarray) -> np.ndarray:
        return np.sign(x) * 2.0 ** np.rint(np.log2(np.abs(x)))

    for step in range(1, 5):
        gradient = rng.normal(size=w.shape)
        net[0].weight.grad = torch.tensor(gradient, dtype=torch.float32)
        stepper.step()
        first = (1 - 2.0**-3) * first + 2.0**-3 * gradient
        largest = np.maximum((1 - 2.0**-10) * largest, np.abs(gradient) + 1e-8)
        rate = power(np.array(2.0**-7 / (1 - (1 - 2.0**-3) ** step)))
        w = w - rate * first * power(1 / largest)
    # float32 arithmetic of four updates of size 2^-7
    np.testing.assert_allclose(net[0].weight.detach().numpy(), w, atol=1e-6)


def test_adamax_under_a_plan_is_torchs() -> None:
    rng = np.random.default_rng(3)
    nets = [nn.Sequential(nn.Linear(5, 4, bias=False)) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    emulated = precision.emulate(nets[0], Plan((Rule("*", "momentum", Format.float(8, 22)),)), torch.zeros(2, 5))
    ours = precision.optimizer(torch.optim.Adamax(nets[0].parameters(), lr=0.01, weight_decay=0.1), emulated)
    theirs = torch.optim.Adamax(nets[1].parameters(), lr=0.01, weight_decay=0.1)
    for _ in range(5):
        gradient = torch.tensor(rng.normal(size=(4, 5)), dtype=torch.float32)
        for net in nets:
            net[0].weight.grad = gradient.clone()
        ours.step()
        theirs.step()
    # moments lose one of 23 bits
    torch.testing.assert_close(nets[0][0].weight, nets[1][0].weight, rtol=1e-5, atol=1e-7)


def test_a_divergence_can_be_told_from_other_errors(make_net, dataset, preprocess) -> None:
    config = Training(epochs=3, learning_rate=1e12, deterministic=True)
    with pytest.raises(DivergenceError, match="the loss is no longer a number at update") as found:
        fit(make_net(), dataset, config, preprocess=preprocess)
    assert isinstance(found.value, UsageError) and found.value.exit_code == 2
