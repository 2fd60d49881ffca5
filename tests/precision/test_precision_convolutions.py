"""Convolutions of every kind under an accumulator's rule: against torch where all is exact, against a loop where not; what is refused."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convsmith import formats, precision
from convsmith.errors import UnsupportedError
from convsmith.precision import Plan, Rule

EXACT = formats.parse("e8m20")
COARSE = formats.parse("e4m3fn")

#: module, input: every option of each.
LAYERS = {
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2), (3, 4, 11)),
    "conv1d same": (lambda: nn.Conv1d(3, 5, 5, padding="same"), (2, 3, 9)),
    "conv1d valid": (lambda: nn.Conv1d(3, 5, 2, padding="valid", bias=False), (2, 3, 9)),
    "conv2d": (lambda: nn.Conv2d(4, 6, (3, 2), stride=(1, 2), padding=(2, 1), groups=2), (2, 4, 6, 7)),
    "conv2d of many small maps": (lambda: nn.Conv2d(2, 3, 5, padding=2), (20, 2, 6, 6)),
    "conv3d": (lambda: nn.Conv3d(4, 6, (3, 2, 3), stride=(2, 1, 2), padding=(1, 0, 2), dilation=(2, 1, 1), groups=2), (2, 4, 7, 4, 5)),
    "conv3d same": (lambda: nn.Conv3d(2, 3, 3, padding="same"), (2, 2, 4, 3, 5)),
    "transposed 1d": (lambda: nn.ConvTranspose1d(4, 6, 3, stride=3, padding=1, output_padding=2, groups=2), (2, 4, 5)),
    "transposed 2d": (lambda: nn.ConvTranspose2d(4, 6, (3, 4), (2, 3), (1, 2), (1, 0), 2, dilation=(2, 1)), (2, 4, 4, 5)),
    "conv2d same of even kernels": (lambda: nn.Conv2d(2, 3, (2, 4), padding="same", dilation=(1, 3)), (2, 2, 5, 6)),
    "transposed 3d": (lambda: nn.ConvTranspose3d(4, 6, (3, 2, 3), (2, 1, 3), (1, 0, 2), (1, 0, 2), 2, dilation=(2, 1, 1)), (2, 4, 3, 2, 3)),
    "transposed 2d, many images": (lambda: nn.ConvTranspose2d(3, 2, 4, bias=False), (17, 3, 4, 5)),
}


def whole(shape: tuple[int, ...], seed: int) -> Tensor:
    """Integers so small that all products and sums are exact in 21 bits."""
    return torch.from_numpy(np.random.default_rng(seed).integers(-3, 4, shape).astype(np.float32))


def filled(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for seed, parameter in enumerate(module.parameters()):
            parameter.copy_(whole(tuple(parameter.shape), seed))
    return module


def results(layer: nn.Module, network: nn.Module, x: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_(True)
    layer.zero_grad()
    y = network(x)
    y.backward(whole(tuple(y.shape), 99))
    return [y.detach(), x.grad, *(p.grad.clone() for p in layer.parameters())]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")  # torch's own
@pytest.mark.parametrize("name", LAYERS)
def test_where_nothing_rounds_all_are_torch(name: str) -> None:
    make, shape = LAYERS[name]
    layer, x = filled(make()), whole(shape, 7)
    want = results(layer, layer, x)
    for order in ("sequential", "pairwise"):
        emulated = precision.emulate(
            nn.Sequential(layer), Plan((Rule("*", "accumulator", EXACT, moment="operation", order=order),)), torch.zeros(shape)
        )
        for ours, theirs in zip(results(layer, emulated, x), want, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_images_without_a_batch() -> None:
    for name, batched in (("conv1d", 2), ("conv2d", 3), ("conv3d", 4), ("transposed 2d", 3)):
        make, shape = LAYERS[name]
        layer, x = filled(make()), whole(shape, 7)
        emulated = precision.emulate(nn.Sequential(layer), Plan((Rule("*", "accumulator", EXACT, moment="operation"),)), torch.zeros(shape))
        assert x[0].ndim == batched
        torch.testing.assert_close(emulated(x[0]), layer(x[:1])[0], rtol=0, atol=0)


def rounded_dot(pairs: list[tuple[float, float]]) -> float:
    total = 0.0
    for a, b in pairs:
        total = formats.round_scalar(total + formats.round_scalar(a * b, COARSE), COARSE)
    return total


def test_the_order_of_a_volume_is_that_of_its_terms() -> None:
    """Output and both gradients of conv3d, one product and one sum after the other."""
    rng = np.random.default_rng(3)
    layer = nn.Conv3d(2, 3, (2, 2, 1), padding=(1, 0, 0), bias=False)
    x, dy = (
        torch.from_numpy(formats.round_array(rng.normal(size=s).astype(np.float32), COARSE)) for s in ((2, 2, 3, 3, 2), (2, 3, 4, 2, 2))
    )
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(formats.round_array(rng.normal(size=tuple(layer.weight.shape)).astype(np.float32), COARSE)))
    emulated = precision.emulate(
        nn.Sequential(layer), Plan((Rule("*", "accumulator", COARSE, moment="operation"),)), torch.zeros(2, 2, 3, 3, 2)
    )
    given = x.clone().requires_grad_(True)
    y = emulated(given)
    y.backward(dy)
    w, xs, es = layer.weight.detach().numpy(), x.numpy(), dy.numpy()

    def at(a: np.ndarray, *index: int) -> float:
        return float(a[index]) if all(0 <= i < n for i, n in zip(index, a.shape, strict=True)) else 0.0

    for n, k, p, q, r in np.ndindex(*y.shape):
        terms = [(float(w[k, c, t, u, 0]), at(xs, n, c, p + t - 1, q + u, r)) for c, t, u in np.ndindex(2, 2, 2)]
        assert y[n, k, p, q, r].item() == rounded_dot(terms)
    for n, c, z, v, r in np.ndindex(*x.shape):
        terms = [(float(w[k, c, t, u, 0]), at(es, n, k, z + 1 - t, v - u, r)) for k, t, u in np.ndindex(3, 2, 2)]
        assert given.grad[n, c, z, v, r].item() == rounded_dot(terms)
    for k, c, t, u, _ in np.ndindex(*w.shape):
        terms = [(float(es[n, k, p, q, r]), at(xs, n, c, p + t - 1, q + u, r)) for n, p, q, r in np.ndindex(2, 4, 2, 2)]
        assert layer.weight.grad[k, c, t, u, 0].item() == rounded_dot(terms)


def test_transposed_sums_are_rounded_in_order() -> None:
    rng = np.random.default_rng(4)
    x, w = (formats.round_array(rng.normal(size=s).astype(np.float32), COARSE) for s in ((1, 3, 4), (3, 2, 3)))
    layer = nn.ConvTranspose1d(3, 2, 3, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(w))
    y = precision.emulate(nn.Sequential(layer), Plan((Rule("*", "accumulator", COARSE, moment="operation"),)), torch.zeros(2, 3, 4))(
        torch.from_numpy(x)
    )
    for k, q in itertools.product(range(2), range(6)):
        terms = [(float(w[c, k, s]), float(x[0, c, q - s]) if 0 <= q - s < 4 else 0.0) for c in range(3) for s in range(3)]
        assert y[0, k, q].item() == rounded_dot(terms)


class Direct(nn.Module):
    """Calls torch's own functions, whose arguments have another order than those of ``torch.nn.functional``."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.tensor([1.0, 2.0])), nn.Parameter(torch.tensor([0.5, -1.0]))
        self.register_buffer("mean", torch.tensor([0.25, -0.5]))
        self.register_buffer("var", torch.tensor([4.0, 0.25]))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.batch_norm(x, self.scale, self.shift, self.mean, self.var, self.training, 0.5, 0.0, False)
        x = torch.group_norm(x, 2, self.scale, self.shift, 1e-5, False)
        x = torch.layer_norm(x, (2,), self.scale, self.shift, 1e-5, False)
        return torch.softmax(x, 1) + x.softmax(1, torch.float32) + torch.log_softmax(x, 1, None)


def test_functions_called_directly() -> None:
    network, x = Direct(), torch.from_numpy(np.random.default_rng(0).normal(size=(4, 2, 3, 2)).astype(np.float32))
    fine = formats.parse("e8m22")
    for training in (True, False):
        want = network.train(training)(x)
        network.mean.copy_(torch.tensor([0.25, -0.5]))
        network.var.copy_(torch.tensor([4.0, 0.25]))
        emulated = precision.emulate(network, Plan((Rule("*", "activation", fine, moment="operation"),)), x)
        torch.testing.assert_close(emulated.train(training)(x), want, rtol=1e-5, atol=1e-5)  # 23 bits, some 30 roundings


class Calls(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function, self.weight = function, nn.Parameter(torch.ones(3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.weight)


def test_sums_that_stay_with_torch_are_refused_by_layer() -> None:
    plan = Plan((Rule("*", "accumulator", COARSE, moment="operation"),))
    with pytest.raises(
        UnsupportedError, match=r"layer 'logsumexp': the sums of logsumexp are not emulated, torch adds them in float32; keep"
    ):
        precision.emulate(Calls(lambda x, w: torch.logsumexp(x, 1)), plan, torch.zeros(2, 3))
    kept = Plan((*plan.rules, Rule("logsumexp", "accumulator", None, moment="operation")))
    mixed = Calls(lambda x, w: torch.logsumexp(x @ w, 1))
    assert precision.emulate(mixed, kept, torch.zeros(2, 3))(torch.ones(4, 3)).shape == (4,)
    with pytest.raises(UnsupportedError, match=r"layer '0\w*': the sums of lstm are not emulated"):
        precision.emulate(nn.Sequential(nn.LSTM(3, 2)), plan, torch.zeros(2, 4, 3))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            lambda x, w: torch.addmm(x, x, w, beta=2),
            r"layer 'addmm': addmm is not emulated operation by operation with these arguments.*beta",
        ),
        (lambda x, w: F.softmax(x @ w, 1, dtype=torch.float64), r"layer 'softmax': softmax to torch.float64 is not emulated"),
        (
            lambda x, w: F.conv_transpose2d(x[None, None], w[None, None], output_padding=1, dilation=2),
            r"layer 'conv_transpose2d': output_padding \(1, 1\) of strides \(1, 1\) is not emulated",
        ),
    ],
)
def test_arguments_that_are_not_written_out(function, message: str) -> None:
    x = torch.ones(3, 3)
    emulated = precision.emulate(Calls(function), Plan((Rule("*", "accumulator", COARSE, moment="operation"),)), torch.ones(3, 3))
    with pytest.raises(UnsupportedError, match=message):
        emulated(x)
