"""One-bit weights and activations in training against BinaryConnect and BinaryNet by hand, and the ranges of dynamic fixed point."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from convsmith import precision
from convsmith.errors import UsageError
from convsmith.formats import Format
from convsmith.precision import Plan, Rule
from convsmith.precision.dynamic_range import DynamicRange
from convsmith.training.reproductions import binary

BINARY = Format.binary()


def linear(weights: list[list[float]]) -> nn.Sequential:
    net = nn.Sequential(nn.Linear(len(weights[0]), len(weights), bias=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor(weights))
    return net


def test_three_updates_are_binaryconnect_by_hand() -> None:
    # all numbers are multiples of 2^-6, so every sum is exact and the comparison is bit for bit
    rng = np.random.default_rng(0)
    w = rng.integers(-64, 65, (3, 5)) / 64
    w[0, 0], w[0, 1] = 0.0, -0.0
    net = linear(w.tolist())
    emulated = precision.emulate(net, binary.connect("*"), torch.zeros(2, 5), count_every=1)
    optimizer = precision.optimizer(torch.optim.SGD(emulated.parameters(), lr=2.0**-3), emulated)
    for _ in range(3):
        x, error = rng.integers(-4, 5, (4, 5)).astype(float), rng.integers(-2, 3, (4, 3)).astype(float)
        optimizer.zero_grad()
        y = emulated(torch.tensor(x, dtype=torch.float32))
        y.backward(torch.tensor(error, dtype=torch.float32))
        optimizer.step()
        read = np.where(w >= 0, 1.0, -1.0)
        assert np.array_equal(y.detach().numpy(), x @ read.T), "the product reads signs, and 0 as 1"
        new = np.clip(w - 2.0**-3 * (error.T @ x), -1, 1)
        flips = int(((new >= 0) != (w >= 0)).sum())
        w = new
        assert np.array_equal(net[0].weight.detach().numpy(), w), "the float32 copy moves, within -1 and 1"
        row = next(row for row in reversed(emulated.counters.rows) if row.role == "update")
        assert (row.flips, row.n, row.stagnation) == (flips, 15, 0)
    assert (np.abs(w) == 1).any(), "the limit was reached"


def test_stochastic_weights_have_the_mean_of_their_copy_and_evaluation_reads_the_copy() -> None:
    values = np.linspace(-1, 1, 9)
    net = linear([[float(v)] * 4000 for v in values])
    emulated = precision.emulate(net, binary.connect("*", stochastic=True), torch.zeros(2, 4000), seed=3)
    emulated.train()
    drawn = emulated(torch.eye(4000)[:1]).detach()  # one column of signs: a draw for each row
    assert set(drawn.flatten().tolist()) <= {-1.0, 1.0}
    mean = emulated(torch.ones(1, 4000)).detach().numpy()[0] / 4000
    # hard sigmoid: P(1) = (w + 1) / 2, so the mean is w; five standard errors of 4,000 draws
    assert np.all(np.abs(mean - values) <= 5 * np.sqrt((1 - values**2) / 4000) + 1e-7)
    emulated.eval()
    with torch.no_grad():
        exact = emulated(torch.ones(1, 4000)).numpy()[0]
    np.testing.assert_allclose(exact, 4000 * values, rtol=1e-5, atol=1e-3)  # float32 sums of 4,000 terms


def test_binary_activations_pass_errors_where_the_input_is_within_one() -> None:
    net = nn.Sequential(nn.Identity(), nn.Hardtanh(), nn.Linear(5, 1, bias=False))
    with torch.no_grad():
        net[2].weight.fill_(2.0)
    plan = Plan((binary.binary_activations("1"),))
    emulated = precision.emulate(net, plan, torch.zeros(2, 5))
    x = torch.tensor([[-1.5, -0.5, 0.0, 0.5, 1.5]], requires_grad=True)
    y = emulated(x)
    assert float(y.detach()) == 2.0 * (-1 - 1 + 1 + 1 + 1)
    y.backward()
    assert x.grad is not None and x.grad.tolist() == [[0.0, 2.0, 2.0, 2.0, 0.0]]


def test_a_binary_network_learns_and_stays_binary() -> None:
    torch.manual_seed(0)
    from convsmith import models

    net = models.load("binarynet_mlp", classes=3, in_channels=1, input_size=(4, 4), hidden=(64, 64))
    emulated = precision.emulate(net, binary.net("*.linear", "*.activation"), torch.zeros(2, 1, 4, 4))
    labels = torch.arange(96) % 3
    x = torch.randn(96, 1, 4, 4, generator=torch.Generator().manual_seed(1)) + labels[:, None, None, None].float() - 1
    optimizer = precision.optimizer(torch.optim.Adam(emulated.parameters(), lr=0.01), emulated)
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(emulated(x), labels).backward()
        optimizer.step()
    emulated.eval()
    seen: list[torch.Tensor] = []
    handle = net.layers.hidden2.linear.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach().clone()))
    with torch.no_grad():
        right = (emulated(x).argmax(1) == labels).float().mean()
    handle.remove()
    assert set(seen[0].unique().tolist()) == {-1.0, 1.0}
    assert right > 0.9
    assert all(float(p.detach().abs().max()) <= 1 for name, p in net.named_parameters() if name.endswith("linear.weight"))


@pytest.mark.parametrize(
    ("role", "fields", "message"),
    [
        ("activation", {"clip": 1.0}, "clip is for stored weights and biases, not for role 'activation'"),
        ("weight", {"clip": -1.0}, "clip is -1; it must be above 0, or 0 for no limit"),
        ("error", {"training_only": True}, "training_only is for weights, biases and activations, not for role 'error'"),
        ("update", {"scale": "tensor"}, "scale 'tensor' is not for role 'update'"),
    ],
)
def test_rules_that_cannot_be(role, fields, message) -> None:
    with pytest.raises(UsageError) as found:
        Rule("*", role, Format.fixed(2, 6), **fields)
    assert message in str(found.value)


def test_rules_say_so_and_survive_a_file() -> None:
    plan = binary.connect("*", stochastic=True)
    assert "clipped to 1; in training only" in str(plan)
    assert Plan.from_json(plan.to_json()) == plan


def test_a_dynamic_range_counts_both_ranges_as_defined() -> None:
    rng = np.random.default_rng(1)
    rule = Rule("*", "update", Format.fixed(1, 7), scale="dynamic", interval=1, max_overflow=0.1)
    found = DynamicRange(rule)
    for _ in range(30):
        x = rng.standard_normal(200).astype(np.float32) * 2.0 ** rng.integers(-6, 3)
        fmt = found.format
        top, half = 2.0 ** (fmt.integer_bits - 1), 2.0 ** (fmt.integer_bits - 2)
        ulp = 2.0**-fmt.fraction_bits
        over = np.mean((x > top - ulp) | (x < -top))
        over_half = np.mean((x > half - ulp / 2) | (x < -half))
        found.look(torch.from_numpy(x))
        expected = fmt.integer_bits + (1 if over > 0.1 else -1 if over_half <= 0.1 else 0)
        assert (found.format.integer_bits, found.format.bits) == (expected, 8)


def test_stored_weights_move_their_range_once_an_update() -> None:
    rules = (Rule("*", "weight", Format.fixed(1, 7), scale="dynamic", interval=2), Rule("*", "update", Format.fixed(4, 4), scale="dynamic"))
    net = linear([[0.5, 0.25]])
    emulated = precision.emulate(net, Plan(rules, master=False), torch.zeros(2, 2))
    optimizer = precision.optimizer(torch.optim.SGD(emulated.parameters(), lr=1.0), emulated)
    seen = []
    for _ in range(5):
        optimizer.zero_grad()
        emulated(torch.tensor([[-1.0, -1.0]])).sum().backward()
        optimizer.step()
        seen.append(float(net[0].weight.detach()[0, 0]))
    # looks are at the start and after each update, never when a weight is read. After the second the range doubles, since 1.5 saturated;
    # 127/128 + 1 and 127/64 + 1 saturate again and double it once more; 127/64 + 1 is half way between two numbers of <3,5>, to even
    assert seen == [127 / 128, 127 / 64, 127 / 64, 3.0, 127 / 32]


def test_a_constraint_comes_before_the_store() -> None:
    fmt = Format.fixed(2, 3)
    net = linear([[1.5, 1.0]])
    emulated = precision.emulate(net, Plan((Rule("*", "weight", fmt),), master=False), torch.zeros(2, 2))
    optimizer = precision.PlannedOptimizer(torch.optim.SGD(emulated.parameters(), lr=0.0), emulated, lambda w: w.mul_(0.9))
    emulated(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert net[0].weight.tolist() == [[1.375, 0.875]]  # 1.35 and 0.9 on the grid of eighths
