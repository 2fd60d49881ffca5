"""Training under a plan against NumPy by hand, against torch itself, and with bad input."""

from __future__ import annotations

import copy
import importlib.util

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from convsmith import formats, precision
from convsmith.errors import UnsupportedError, UsageError
from convsmith.formats import Format
from convsmith.precision import LossScale, Phase, Plan, Rule, Start
from convsmith.precision.streams import Moment, stream, tensor_key

WEIGHT, ACTIVATION, ERROR = Format.fixed(2, 14), Format.fixed(4, 6), Format.fixed(2, 8)
"""Chosen so that every sum is exact in float32 in any order, and the oracle needs no knowledge of torch's."""

GUPTA = Plan(
    (
        *(Rule("*", role, WEIGHT, rounding="stochastic") for role in ("weight", "bias", "weight_gradient", "update", "momentum")),
        Rule("*", "activation", ACTIVATION, rounding="stochastic"),
        Rule("*", "error", ERROR, rounding="stochastic"),
    ),
    "fixed",
    master=False,
)


def mlp(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


def convnet(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(3 * 3 * 3, 2))


class Residual(nn.Module):
    """Functional style: operations that are no modules, a parameter that belongs to no layer, one layer used twice."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.gain = nn.Parameter(torch.ones(4, 1, 1))
        self.fc = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.norm(self.stem(x)))
        y = F.relu(self.conv(x))
        y = self.conv(y) * self.gain
        x = F.relu(x + y)
        return self.fc(F.dropout(x.mean((2, 3)), 0.1, self.training))


class Hand:
    """Rounding by name, as documented: the stream is that of (tensor, step, pass)."""

    def __init__(self, step: int) -> None:
        self.moment = Moment(seed=7, step=step)

    def __call__(self, x, fmt: Format, layer: str, role: str, tensor: str, part: int = 0) -> np.ndarray:
        drawn = stream(tensor_key(layer, role, tensor) + part, self.moment)
        return formats.round_numpy(x, fmt, "stochastic", seed=7, stream=drawn).astype(np.float64)


def update_by_hand(hand: Hand, layer: str, name: str, w, gradient, buffer):
    """One parameter: momentum 0.5, rate 1/16, no master copies."""
    gradient = hand(gradient, WEIGHT, layer, "weight_gradient", name)
    new = gradient if buffer is None else 0.5 * buffer + gradient
    # roundings of one parameter in a step are numbered: momentum (after the operation before it), then the update
    new = hand(new, WEIGHT, layer, "momentum", name, 1 if buffer is None else 2)
    change = hand(-new / 16, WEIGHT, layer, "update", name, 2 if buffer is None else 3)
    return hand(w + change, WEIGHT, layer, "bias" if name.endswith("bias") else "weight", name, 64), new


def initial(hand: Hand, net: nn.Module) -> dict[str, np.ndarray]:
    return {
        name: hand(p.detach().numpy(), WEIGHT, name.split(".")[0], "bias" if "bias" in name else "weight", name, 64)
        for name, p in net.named_parameters()
    }


def step_by_torch(emulated, optimizer, x, target) -> torch.Tensor:
    optimizer.zero_grad()
    y = emulated(torch.from_numpy(x))
    (0.5 * (y - torch.from_numpy(target)).square()).sum().backward()
    optimizer.step()
    return y.detach()


def test_a_small_mlp_by_hand() -> None:
    net, rng = mlp(), np.random.default_rng(0)
    emulated = precision.emulate(net, GUPTA, torch.zeros(2, 6), seed=7)
    optimizer = precision.optimizer(torch.optim.SGD(emulated.parameters(), lr=1 / 16, momentum=0.5), emulated)
    w, buffers = initial(Hand(0), mlp()), {}
    for step in range(4):
        hand = Hand(step)
        x = rng.standard_normal((4, 6)).astype(np.float32) / 2
        target = rng.integers(-8, 8, (4, 3)).astype(np.float32) / 16
        a0 = hand(x, ACTIVATION, "input", "activation", "output")
        z1 = a0 @ w["0.weight"].T + w["0.bias"]
        a1 = hand(np.maximum(z1, 0), ACTIVATION, "1", "activation", "output")
        y = hand(a1 @ w["2.weight"].T + w["2.bias"], ACTIVATION, "2", "activation", "output")
        e2 = hand(y - target, ERROR, "2", "error", "output")
        e1 = hand(e2 @ w["2.weight"], ERROR, "1", "error", "output") * (a1 > 0)
        gradients = {"2.weight": e2.T @ a1, "2.bias": e2.sum(0), "0.weight": e1.T @ a0, "0.bias": e1.sum(0)}
        found = step_by_torch(emulated, optimizer, x, target)
        np.testing.assert_array_equal(found.numpy(), y.astype(np.float32))
        for name, gradient in gradients.items():
            w[name], buffers[name] = update_by_hand(hand, name.split(".")[0], name, w[name], gradient, buffers.get(name))
            np.testing.assert_array_equal(net.get_parameter(name).detach().numpy(), w[name].astype(np.float32), err_msg=f"{name}, {step}")


def test_a_small_convnet_by_hand() -> None:
    net, rng = convnet(), np.random.default_rng(1)
    emulated = precision.emulate(net, GUPTA, torch.zeros(2, 2, 5, 5), seed=7)
    optimizer = precision.optimizer(torch.optim.SGD(emulated.parameters(), lr=1 / 16, momentum=0.5), emulated)
    w, buffers = initial(Hand(0), convnet()), {}
    for step in range(3):
        hand = Hand(step)
        x = rng.standard_normal((2, 2, 5, 5)).astype(np.float32) / 2
        target = rng.integers(-8, 8, (2, 2)).astype(np.float32) / 16
        a0 = hand(x, ACTIVATION, "input", "activation", "output")
        windows = np.lib.stride_tricks.sliding_window_view(a0, (3, 3), axis=(2, 3))
        z1 = np.einsum("ncpqrs,kcrs->nkpq", windows, w["0.weight"]) + w["0.bias"][:, None, None]
        a1 = hand(np.maximum(z1, 0), ACTIVATION, "1", "activation", "output")
        y = hand(a1.reshape(2, -1) @ w["3.weight"].T + w["3.bias"], ACTIVATION, "3", "activation", "output")
        e3 = hand(y - target, ERROR, "3", "error", "output")
        e1 = hand((e3 @ w["3.weight"]).reshape(a1.shape), ERROR, "1", "error", "output") * (a1 > 0)
        gradients = {
            "3.weight": e3.T @ a1.reshape(2, -1),
            "3.bias": e3.sum(0),
            "0.weight": np.einsum("nkpq,ncpqrs->kcrs", e1, windows),
            "0.bias": e1.sum((0, 2, 3)),
        }
        np.testing.assert_array_equal(step_by_torch(emulated, optimizer, x, target).numpy(), y.astype(np.float32))
        for name, gradient in gradients.items():
            w[name], buffers[name] = update_by_hand(hand, name.split(".")[0], name, w[name], gradient, buffers.get(name))
            np.testing.assert_array_equal(net.get_parameter(name).detach().numpy(), w[name].astype(np.float32), err_msg=f"{name}, {step}")


def test_half_precision_by_torchs_own_casts() -> None:
    """e5m10 at layers: weights, stores, errors and gradients are casts to fp16, at exact sums."""
    half = Format.float(5, 10)
    net, rng = mlp(1), np.random.default_rng(2)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.from_numpy(rng.integers(-64, 64, p.shape).astype(np.float32) / 64))
    plan = Plan(tuple(Rule("*", role, half, overflow="infinity") for role in ("weight", "bias", "activation", "error", "weight_gradient")))
    x = (rng.integers(-64, 64, (8, 6)) / 8).astype(np.float32)
    w = {name: p.detach().numpy().astype(np.float64) for name, p in net.named_parameters()}
    a1 = np.maximum(x @ w["0.weight"].T + w["0.bias"], 0).astype(np.float16).astype(np.float64)
    y = (a1 @ w["2.weight"].T + w["2.bias"]).astype(np.float16).astype(np.float64)
    found = precision.emulate(net, plan, torch.from_numpy(x))(torch.from_numpy(x))
    np.testing.assert_array_equal(found.detach().numpy(), y.astype(np.float32))
    found.backward(torch.from_numpy((y / 3).astype(np.float32)))
    e2 = (y / 3).astype(np.float32).astype(np.float16).astype(np.float64)
    np.testing.assert_allclose(net[2].bias.grad, e2.sum(0).astype(np.float16), rtol=2**-10)
    e1 = (e2 @ w["2.weight"]).astype(np.float16).astype(np.float64) * (a1 > 0)
    assert (net[0].weight.grad.numpy() == (e1.T @ x).astype(np.float16)).mean() > 0.9
    assert (net[0].weight.grad.numpy() == net[0].weight.grad.half().float().numpy()).all()


@pytest.mark.parametrize("make", [mlp, convnet, lambda: Residual().train()], ids=["mlp", "convnet", "residual"])
@pytest.mark.parametrize("kind", ["SGD", "Adam", "AdamW"])
def test_float32_is_torch_bit_for_bit(make, kind) -> None:
    fp32 = Format.float(8, 23)
    roles = ("activation", "error", "weight_gradient", "update", "momentum")
    net, plain = make(), make()
    shape = {nn.Linear: (4, 6), nn.Conv2d: (4, 2, 5, 5)}[type(net[0])] if isinstance(net, nn.Sequential) else (4, 1, 6, 6)
    emulated = precision.emulate(net, Plan(tuple(Rule("*", role, fp32) for role in roles)), torch.zeros(shape))
    a = precision.optimizer(getattr(torch.optim, kind)(emulated.parameters(), lr=0.05), emulated)
    b = getattr(torch.optim, kind)(plain.parameters(), lr=0.05)
    for step in range(3):
        torch.manual_seed(step)
        x = torch.randn(shape)
        for network, optimizer in ((emulated, a), (plain, b)):
            torch.manual_seed(step)
            optimizer.zero_grad()
            network(x).square().mean().backward()
            optimizer.step()
    for name, value in plain.state_dict().items():
        assert torch.equal(value, net.state_dict()[name]), name


def test_tensors_have_the_names_of_layers() -> None:
    emulated = precision.emulate(Residual(), Plan((Rule("*", "activation", Format.fixed(4, 8)),)), torch.zeros(2, 1, 6, 6))
    stored = [a.layer for a in emulated.assignments if a.role == "activation" and a.rule]
    assert stored == ["input", "stem", "relu", "relu_1", "conv_1", "mul", "relu_2", "mean", "dropout", "fc"]
    weights = [(a.layer, a.tensor) for a in emulated.assignments if a.role == "weight"]
    assert [layer for layer, _ in weights] == ["stem", "norm", "conv", "conv_1", "mul", "fc"]
    assert weights[2][1] == weights[3][1] == "conv.weight" and weights[4][1] == "gain"
    assert "conv_1   conv2d" in emulated.table() and "fixed<4,8>" in emulated.table()


def test_nothing_of_the_network_changes_but_its_weights() -> None:
    net, x = Residual().eval(), torch.randn(2, 1, 6, 6)
    before = copy.deepcopy(net.state_dict())
    generator = torch.get_rng_state()
    expected = net(x)
    emulated = precision.emulate(net, Plan((Rule("*", "activation", Format.fixed(2, 2)),)), x)
    assert not net.training and torch.equal(generator, torch.get_rng_state())
    assert not torch.equal(emulated.eval()(x), expected)
    assert torch.equal(net(x), expected), "the network itself still computes in float32"
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in before.items())


def train(emulated, optimizer, steps, begin: int = 0) -> None:
    for step in range(begin, steps):
        rng = np.random.default_rng(step)
        x = torch.from_numpy(rng.standard_normal((8, 1, 6, 6)).astype(np.float32))
        optimizer.zero_grad()
        torch.manual_seed(step)
        loss = F.cross_entropy(emulated(x), torch.from_numpy(rng.integers(0, 3, 8)))
        optimizer.scale(loss).backward()
        optimizer.step()


MOVING = Plan(
    (
        *(Rule("*", role, Format.fixed(3, 9), rounding="stochastic", scale="dynamic", interval=3) for role in ("activation", "error")),
        Rule("*", "weight", Format.fixed(1, 9), rounding="stochastic", moment="batch"),
        Rule("*", "momentum", Format.float(8, 7), rounding="stochastic"),
    ),
    loss_scale=LossScale("dynamic", 64.0, 2.0, 4),
    phases=(Phase(Start("step", 5), (Rule("*", "activation", Format.fixed(4, 4), rounding="stochastic"),)),),
)


def build(plan: Plan, seed: int = 0):
    emulated = precision.emulate(Residual(), plan, torch.zeros(2, 1, 6, 6), seed=seed, count_every=2)
    return emulated, precision.optimizer(torch.optim.SGD(emulated.parameters(), lr=0.1, momentum=0.9), emulated)


def test_runs_repeat_and_resume_bit_for_bit() -> None:
    whole, optimizer = build(MOVING)
    train(whole, optimizer, 8)
    again, repeat = build(MOVING)
    train(again, repeat, 4)
    states = copy.deepcopy(again.state_dict()), copy.deepcopy(repeat.state_dict())
    resumed, restarted = build(MOVING)
    resumed.load_state_dict(states[0])
    restarted.load_state_dict(states[1])
    train(resumed, restarted, 8, begin=4)
    other, different = build(MOVING, seed=1)
    train(other, different, 8)
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name
    assert not torch.equal(whole.network.fc.weight, other.network.fc.weight)
    assert resumed.clock.phase == 1 and resumed.counters.rows == whole.counters.rows
    assert restarted.scaler.state() == optimizer.scaler.state() == {"value": 256.0, "good": 0, "skipped": 0}


def test_dynamic_ranges_follow_overflow() -> None:
    rule = Rule("*", "activation", Format.fixed(2, 6), scale="dynamic", interval=2, max_overflow=0.0)
    emulated = precision.emulate(nn.Sequential(nn.Identity(), nn.Tanh()), Plan((rule,)), torch.zeros(2, 4))
    emulated.network.register_parameter("unused", nn.Parameter(torch.zeros(1)))
    for _ in range(2):
        emulated(torch.tensor([[5.0, 0.1, -0.2, 0.3]] * 2))
    entry = emulated._input.dynamic.format
    assert (entry.integer_bits, entry.fraction_bits) == (3, 5), "5 is beyond <2,6>: one bit more"
    for _ in range(8):
        emulated(torch.full((2, 4), 0.1))
    entry = emulated._input.dynamic.format
    assert (entry.integer_bits, entry.fraction_bits) == (-1, 9), "four intervals without overflow at half the range"


def test_loss_scale_skips_an_overflow() -> None:
    plan = Plan((Rule("*", "error", Format.float(5, 2), overflow="infinity"),), loss_scale=LossScale("dynamic", 2.0**40))
    emulated, optimizer = build(plan)
    before = emulated.network.fc.weight.clone()
    train(emulated, optimizer, 1)
    assert optimizer.scaler.state() == {"value": 2.0**39, "good": 0, "skipped": 1} and emulated.moment.step == 1
    assert torch.equal(before, emulated.network.fc.weight)
    fixed, stepper = build(Plan(loss_scale=LossScale("static", 1024.0)))
    plain, plain_stepper = build(Plan())
    train(fixed, stepper, 2)
    train(plain, plain_stepper, 2)
    torch.testing.assert_close(fixed.network.fc.weight, plain.network.fc.weight, rtol=1e-5, atol=1e-7)


def test_counts() -> None:
    net = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[1.0, 1.5]]))
    rules = (Rule("*", "activation", Format.fixed(3, 2)), Rule("*", "weight", Format.fixed(3, 2)))
    rules = (*rules, Rule("*", "update", Format.fixed(3, 2)))
    emulated = precision.emulate(nn.Sequential(net), Plan(rules, master=False), torch.zeros(2, 2), count_every=1)
    optimizer = precision.optimizer(torch.optim.SGD(emulated.parameters(), lr=2.0**-6), emulated)
    emulated(torch.tensor([[9.0, 0.1], [-9.0, 0.0], [0.05, 2.0]])).sum().backward()
    optimizer.step()
    rows = {(row.layer, row.role): row for row in emulated.counters.rows}
    assert rows["0", "update"] == emulated.counters.rows[-1], "the updates themselves became zero, and were counted before"
    entry = rows["input", "activation"]
    assert (entry.n, entry.overflow, entry.underflow, entry.saturation) == (6, 2, 2, 2)
    # gradients 0 (3.75 - 4 + 0.05 -> -0.25) and 2: updates 1/256 and -1/32, both below half of 1/4
    assert rows["0", "update"].stagnation == 2 and rows["0", "update"].n == 2
    assert torch.equal(net.weight, torch.tensor([[1.0, 1.5]]))
    assert [row["step"] for row in emulated.counters.to_list()] == [0] * len(emulated.counters.rows)


def test_counts_as_a_picture(tmp_path) -> None:
    emulated, optimizer = build(GUPTA)
    train(emulated, optimizer, 5)
    path = precision.plot_counts(emulated.counters.to_list(), tmp_path / "counts.svg")
    assert ("<svg" in path.read_text() and "stagnation" in path.read_text()) or path.stat().st_size > 5000
    with pytest.raises(UsageError, match="nothing was counted; train under a plan with count_every above 0"):
        precision.plot_counts([], tmp_path / "none.svg")


@pytest.mark.parametrize(
    ("kind", "expected"), [("clipped", [1.0, 1.0, 0.0]), ("hard_tanh", [1.0, 0.0, 0.0]), ("approx_sign", [1.0, 0.0, 0.0])]
)
def test_pseudo_gradients(kind, expected) -> None:
    net = nn.Sequential(nn.Linear(1, 3, bias=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[0.5], [1.5], [-3.0]]))
    emulated = precision.emulate(net, Plan((Rule("*", "weight", Format.fixed(2, 1), pseudo_gradient=kind),)), torch.ones(2, 1))
    emulated(torch.ones(1, 1)).sum().backward()
    np.testing.assert_array_equal(net[0].weight.grad.numpy().ravel(), expected)


def test_learned_steps() -> None:
    """Values and gradients of LSQ by its own equations, the step found by autograd of a straight-through expression."""
    net = nn.Sequential(nn.Linear(4, 2, bias=False))
    plan = Plan((Rule("*", "weight", Format.integer(3), scale="tensor", pseudo_gradient="lsq"),))
    emulated = precision.emulate(net, plan, torch.ones(2, 4))
    (step,) = emulated.learned_steps.values()
    w, s = (x.detach().clone().requires_grad_() for x in (net[0].weight, step))
    assert step.item() == pytest.approx(2 * w.abs().mean().item() / 3**0.5)
    v = (w / s).clamp(-4, 3)
    y = ((v.round() - v).detach() + v) * s
    out = emulated(torch.eye(4))
    torch.testing.assert_close(out, y.T)
    out.square().sum().backward()
    y.square().sum().backward()
    torch.testing.assert_close(net[0].weight.grad, w.grad)
    torch.testing.assert_close(step.grad, s.grad / (8 * 3) ** 0.5)
    assert len(list(emulated.parameters())) == 2


def test_scales() -> None:
    x = torch.tensor([[0.1, -6.0, 3.0, 0.0, 100.0, 1.0, 2.0, 3.0]])
    for scale, step in (("tensor", [100 / 127] * 8), ("group", [6 / 127] * 4 + [100 / 127] * 4), ("block", [1 / 16] * 4 + [1.0] * 4)):
        block = {} if scale == "tensor" else {"block": 4}
        rule = Rule("input", "activation", Format.integer(8, symmetric=True), scale=scale, **block)
        found = precision.emulate(nn.Identity(), Plan((rule,)), torch.zeros(2, 8))(x)
        size = torch.tensor(step)
        torch.testing.assert_close(found, (x / size).round() * size, rtol=1e-6, atol=1e-6)


def test_plans_for_another_network() -> None:
    x = torch.zeros(2, 2, 5, 5)
    with pytest.raises(UsageError, match=r"rule 1 \('conv1', weight\) matches nothing; layers with a tensor of that role are 0, 3"):
        precision.emulate(convnet(), Plan((Rule("conv1", "weight", WEIGHT),)), x)
    with pytest.raises(UsageError, match=r"phase 1, rule 1 \('9', error\) matches nothing"):
        precision.emulate(convnet(), Plan(phases=(Phase(Start("step", 1), (Rule("9", "error", ERROR),)),)), x)
    with pytest.raises(UsageError, match="exempt 'head' matches no layer; there are input, 0"):
        precision.emulate(convnet(), Plan(exempt=("head",)), x)


def test_other_types_are_told() -> None:
    with pytest.raises(UsageError, match=r"parameter '0.weight' is torch.float64; .* call module.float\(\) first"):
        precision.emulate(mlp().double(), GUPTA, torch.zeros(2, 6))
    with pytest.raises(UsageError, match=r"the example is torch\.float16; emulation carries every format in float32"):
        precision.emulate(mlp(), GUPTA, torch.zeros(2, 6).half())
    emulated = precision.emulate(mlp(), GUPTA, torch.zeros(2, 6))
    for dtype in (torch.float64, torch.float16):
        with pytest.raises(UsageError, match=f"the network computes in float32, .* got {dtype} images"):
            emulated(torch.zeros(2, 6, dtype=dtype))
    with pytest.raises(UnsupportedError, match="the optimizer Adagrad is not emulated; there are SGD, Adam, AdamW, RMSprop"):
        precision.optimizer(torch.optim.Adagrad(emulated.parameters()), emulated)


def test_channels_last_has_the_same_bits() -> None:
    net, x = convnet(), torch.randn(4, 2, 5, 5)
    emulated = precision.emulate(net, Plan((Rule("input", "activation", ACTIVATION, rounding="stochastic"),)), x)
    one = emulated._input.rounded(x)
    two = emulated._input.rounded(x.to(memory_format=torch.channels_last))
    assert torch.equal(one, two)


def test_not_a_number_stays_one_and_saturation_holds() -> None:
    emulated = precision.emulate(mlp(), GUPTA, torch.zeros(2, 6))
    x = torch.zeros(2, 6)
    x[0, 0] = torch.nan
    found = emulated(x)
    assert found[0].isnan().any() and not found[1].isnan().any()
    tiny = Plan((Rule("*", "activation", Format.fixed(1, 3)),))
    out = precision.emulate(mlp(), tiny, torch.zeros(2, 6))(1e6 * torch.randn(4, 6))
    assert out.abs().max() <= 1 and (out * 8 == (out * 8).round()).all()


HALF = Format.float(5, 10)
EACH = Plan(
    (
        *(Rule("*", role, HALF, "operation", overflow="infinity") for role in ("activation", "error", "update", "momentum", "accumulator")),
        *(Rule("*", role, HALF, overflow="infinity") for role in ("weight", "bias", "weight_gradient")),
    ),
    "each operation in fp16",
    master=False,
)


def sums(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Multiply (m, k) by (k, n) in NumPy's own float16, one product and one addition after the other."""
    total = np.zeros((len(a), b.shape[1]), np.float16)
    for k in range(a.shape[1]):
        total = (total + (a[:, k : k + 1] * b[k : k + 1]).astype(np.float16)).astype(np.float16)
    return total


def column_sums(a: np.ndarray) -> np.ndarray:
    return sums(np.ones((1, len(a)), np.float16), a)[0]


def test_an_mlp_with_every_operation_rounded_by_a_plain_loop() -> None:
    net, rng = mlp(2), np.random.default_rng(5)
    emulated = precision.emulate(net, EACH, torch.zeros(2, 6))
    optimizer = precision.optimizer(torch.optim.SGD(emulated.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01), emulated)
    w = {name: p.detach().numpy().astype(np.float16) for name, p in mlp(2).named_parameters()}
    buffers: dict[str, np.ndarray] = {}
    f16 = np.float16
    for step in range(3):
        x, error = rng.standard_normal((7, 6)).astype(np.float32), rng.standard_normal((7, 3)).astype(np.float32)
        a0 = x.astype(f16)
        a1 = np.maximum(sums(a0, w["0.weight"].T) + w["0.bias"], f16(0))
        y = sums(a1, w["2.weight"].T) + w["2.bias"]
        optimizer.zero_grad()
        found = emulated(torch.from_numpy(x))
        found.backward(torch.from_numpy(error))
        optimizer.step()
        np.testing.assert_array_equal(found.detach().numpy(), y.astype(np.float32))
        e2 = error.astype(f16)
        e1 = sums(e2, w["2.weight"]) * (a1 > 0)
        gradients = {"0.weight": sums(e1.T, a0), "0.bias": column_sums(e1), "2.weight": sums(e2.T, a1), "2.bias": column_sums(e2)}
        for name, gradient in gradients.items():
            direction = gradient + (w[name].astype(np.float32) * 0.01).astype(f16)
            old = buffers.get(name)
            buffers[name] = direction if old is None else (old.astype(np.float32) * 0.9).astype(f16) + direction
            change = (buffers[name].astype(np.float32) * -0.1).astype(f16)
            w[name] = w[name] + change
            got = net.get_parameter(name).detach().numpy()
            np.testing.assert_array_equal(got, w[name].astype(np.float32), err_msg=f"{name}, step {step}")


def test_convolutions_norms_and_the_loss_by_operation() -> None:
    """A convolution is the product of its windows; a norm and a softmax agree with float64 within the steps of their operations."""
    torch.manual_seed(0)
    x = torch.randn(3, 2, 6, 6)
    conv = nn.Conv2d(2, 4, 3, padding=1)
    emulated = precision.emulate(nn.Sequential(conv), EACH, x)
    y = emulated(x)
    y.sum().backward()
    half = [p.detach().numpy().astype(np.float16) for p in (conv.weight, conv.bias)]
    padded = np.pad(x.numpy().astype(np.float16), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3)).transpose(0, 2, 3, 1, 4, 5).reshape(-1, 18)
    expected = (sums(windows, half[0].reshape(4, -1).T) + half[1]).reshape(3, 6, 6, 4).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(y.detach().numpy(), expected.astype(np.float32))
    ones = np.ones((len(windows), 4), np.float16)
    np.testing.assert_array_equal(conv.weight.grad.numpy(), sums(ones.T, windows).reshape(4, 2, 3, 3).astype(np.float32))

    def loss(logits: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64))

    norm = nn.Sequential(nn.BatchNorm2d(2), nn.AvgPool2d(2), nn.Flatten(), nn.LayerNorm(18), nn.GroupNorm(2, 18), nn.Softmax(1))
    rounded = precision.emulate(norm, EACH, x, loss=loss)
    found = rounded(x)
    with rounded.loss():
        value = loss(found)
    value.backward()
    plain = copy.deepcopy(norm).double()
    plain[0].reset_running_stats()
    wanted = plain(x.double())
    # some forty roundings of half a unit in 2^11 each, amplified by the three norms in between
    torch.testing.assert_close(found.double(), wanted, rtol=0.04, atol=1e-3)
    torch.testing.assert_close(value.double(), loss(wanted), rtol=0.01, atol=1e-3)
    torch.testing.assert_close(norm[0].running_mean.double(), plain[0].running_mean, rtol=0.02, atol=1e-3)
    assert torch.equal(found, found.half().float()) and torch.equal(value, value.half().float())


@pytest.mark.extra
def test_a_network_of_timm_trains() -> None:
    if importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed")
    from convsmith import models

    torch.manual_seed(0)
    net = models.load("timm/resnet10t", classes=3, in_channels=3, input_size=(32, 32))
    before = net.state_dict()["conv1.0.weight"].clone()
    emulated = precision.emulate(net, GUPTA, torch.zeros(2, 3, 32, 32))
    optimizer = precision.optimizer(torch.optim.AdamW(emulated.parameters(), lr=0.01), emulated)
    F.cross_entropy(emulated(torch.randn(4, 3, 32, 32)), torch.tensor([0, 1, 2, 0])).backward()
    optimizer.step()
    w = net.state_dict()["conv1.0.weight"]
    assert (w != before).any() and (w * 2**14 == (w * 2**14).round()).all()


def test_the_same_bits_with_one_thread_and_two(monkeypatch) -> None:
    """Every sum is rounded here, in a named order, so that torch's own sums and their threads have no part in it."""
    rules = [Rule("*", role, Format.fixed(3, 9), rounding="stochastic") for role in ("weight", "bias", "weight_gradient")]
    rules += [Rule("*", role, Format.fixed(3, 9), "operation", rounding="stochastic") for role in ("activation", "error", "update")]
    rules.append(Rule("*", "accumulator", Format.fixed(6, 10), "operation", rounding="stochastic", random_bits=8))
    before, found = torch.get_num_threads(), []
    for threads in (1, 2):
        monkeypatch.setenv("CONVSMITH_THREADS", str(threads))
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(1, 8, 5, padding=2), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8 * 14 * 14, 10))
        emulated = precision.emulate(net, Plan(tuple(rules)), torch.zeros(2, 1, 28, 28))
        optimizer = precision.optimizer(torch.optim.SGD(emulated.parameters(), lr=0.1), emulated)
        for step in range(2):
            torch.manual_seed(step)
            optimizer.zero_grad()
            emulated(torch.randn(32, 1, 28, 28)).square().mean().backward()
            optimizer.step()
        found.append([p.detach().clone() for p in net.parameters()])
    torch.set_num_threads(before)
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))
