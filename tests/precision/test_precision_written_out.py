"""Functions written out as single operations: torch's results where roundings are fine, a plain loop where they are coarse."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convsmith import formats, precision
from convsmith.errors import UnsupportedError
from convsmith.precision import Plan, Rule

FINE, HALF = formats.parse("e8m22"), formats.parse("e5m10")
MASK = torch.tensor([[True, False, True], [True, True, False], [False, True, True]])

#: What is called, and the shape of its input.
CASES = {
    "instance norm": (lambda x: torch.instance_norm(x, None, None, None, None, True, 0.1, 1e-5, False), (2, 3, 4, 4)),
    "rms norm": (lambda x: F.rms_norm(x, (4, 4)), (2, 3, 4, 4)),
    "local response norm": (lambda x: F.local_response_norm(x, 3, alpha=0.5), (2, 5, 3, 2)),
    "mean and variance": (lambda x: torch.cat(torch.var_mean(x, (0, 2), correction=0)), (3, 2, 4)),
    "deviation": (lambda x: x.std(1, keepdim=True) + torch.std_mean(x, 1)[1][:, None] + x.var(), (3, 5)),
    "average pool 1d": (lambda x: F.avg_pool1d(x, 3, 2, 1), (2, 3, 7)),
    "average pool 3d": (lambda x: F.avg_pool3d(x, (1, 2, 3), padding=(0, 1, 1)), (2, 2, 3, 4, 5)),
    "adaptive pools": (
        lambda x: F.adaptive_avg_pool3d(x, (2, 1, None)).flatten(2) + F.adaptive_avg_pool1d(x.flatten(2), 6),
        (2, 2, 4, 3, 3),
    ),
    "attention": (lambda x: F.scaled_dot_product_attention(x, x * 0.5, x + 1, is_causal=True), (2, 3, 4)),
    "attention with masks": (
        lambda x: F.scaled_dot_product_attention(x, x, x, MASK) + F.scaled_dot_product_attention(x, x, x, MASK.float(), scale=0.3),
        (2, 3, 4),
    ),
    "attention of groups": (lambda x: F.scaled_dot_product_attention(x, x[:, :2], x[:, 2:], enable_gqa=True), (2, 4, 3, 5)),
    "einsum": (lambda x: torch.einsum("bik,bjk->bji", x, x) + torch.einsum("bik,lck->bi", x, x)[:, None], (2, 3, 4)),
    "einsum of one, and without sums": (lambda x: torch.einsum("bik->kb", x) @ torch.einsum("i,j->ij", x[0, 0, :2], x[1, 1]), (2, 3, 4)),
    "products of vectors": (
        lambda x: torch.mv(x, x[0]) * torch.dot(x[0], x[1]) + torch.inner(x, x) + torch.outer(x[:, 0], x[:, 1]),
        (4, 4),
    ),
    "baddbmm": (lambda x: torch.baddbmm(x, x, x.transpose(1, 2)), (2, 3, 3)),
    "linear on images": (lambda x: F.conv2d(x, x[:, :, :2, :2] * 0.5, padding="same"), (3, 3, 4, 5)),
}


class Calls(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.gain = name, nn.Parameter(torch.ones(CASES[name][1][-1]))

    def forward(self, x: Tensor) -> Tensor:
        return CASES[self.name][0](x * self.gain)


def plan(fmt: formats.Format, **sums: object) -> Plan:
    roles = ("activation", "error")
    return Plan(
        (
            *(Rule("*", role, fmt, "operation", overflow="infinity") for role in roles),  # type: ignore[arg-type]
            Rule("*", "accumulator", fmt, "operation", overflow="infinity", **sums),  # type: ignore[arg-type]
        )
    )


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")  # torch's own
@pytest.mark.parametrize("name", CASES)
def test_with_fine_roundings_all_are_torch(name: str) -> None:
    """At 22 bits of fraction, values and gradients are torch's in float64 within some roundings of their size."""
    x = torch.from_numpy(np.random.default_rng(1).normal(size=CASES[name][1]).astype(np.float32))
    network, gain = Calls(name), torch.ones(x.shape[-1], dtype=torch.float64, requires_grad=True)
    y, z = precision.emulate(network, plan(FINE), x)(x), CASES[name][0](x.double() * gain)
    torch.testing.assert_close(y.double(), z, rtol=2e-5, atol=2e-5)
    weights = torch.linspace(-1, 1, z.numel(), dtype=torch.float64).reshape(z.shape)
    (y * weights.float()).sum().backward()
    (z * weights).sum().backward()
    torch.testing.assert_close(network.gain.grad.double(), gain.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("name", CASES)
def test_with_coarse_roundings_all_values_are_of_the_format(name: str) -> None:
    x = torch.from_numpy(np.random.default_rng(1).normal(size=CASES[name][1]).astype(np.float32))
    y = precision.emulate(Calls(name), plan(HALF), x)(x)
    assert torch.equal(y, y.half().float()) and not torch.equal(y, CASES[name][0](x))


def half(x: np.ndarray | float) -> np.ndarray:
    """Round once to fp16; all sums and products of two fp16 numbers are exact in float64."""
    return np.asarray(x, np.float64).astype(np.float16).astype(np.float64)


def added(terms: list[np.ndarray]) -> np.ndarray:
    total = np.zeros(())
    for term in terms:
        total = half(total + term)
    return total


def test_a_norm_and_attention_by_a_plain_loop() -> None:
    rng = np.random.default_rng(2)
    x = half(rng.normal(size=(3, 5)))
    mean = half(added([half(x[:, i] * x[:, i]) for i in range(5)]) / 5)
    # eps is a float32 number: the sum with it is rounded once
    inverse = half(1 / half(np.sqrt(half(mean + float(np.float32(1e-3))))))
    given = torch.from_numpy(x.astype(np.float32))
    norm = nn.RMSNorm(5, eps=float(np.float32(1e-3)), elementwise_affine=False)
    got = precision.emulate(nn.Sequential(norm), plan(HALF), given)(given)
    np.testing.assert_array_equal(got.numpy(), half(x * inverse[:, None]).astype(np.float32))

    class Attention(nn.Module):
        def forward(self, q: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(q, q, q)

    scores = added([half(x[:, None, i] * x[None, :, i]) for i in range(5)])
    scores = half(scores * float(np.float32(1 / math.sqrt(5))))
    e = half(np.exp(half(scores - scores.max(1, keepdims=True)).astype(np.float32)))
    share = half(e / added([e[:, i] for i in range(3)])[:, None])
    want = added([half(share[:, i, None] * x[None, i]) for i in range(3)])
    got = precision.emulate(Attention(), plan(HALF), given)(given)
    np.testing.assert_array_equal(got.numpy(), want.astype(np.float32))


def test_running_statistics_of_instance_norm_are_stored() -> None:
    norm, x = (
        nn.InstanceNorm2d(2, affine=True, track_running_stats=True),
        torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0)),
    )
    rule = Rule("*", "norm_statistics", formats.parse("fixed<2,6>"))
    emulated = precision.emulate(nn.Sequential(norm), Plan((rule,)), x)
    emulated(x)
    wanted = 0.1 * x.mean((2, 3)).mul(64).round().div(64).mean(0)
    assert torch.equal(norm.running_mean * 64, (norm.running_mean * 64).round())
    torch.testing.assert_close(norm.running_mean, wanted, rtol=0, atol=1 / 64)
    assert emulated.eval()(x).shape == x.shape


def test_einsums_that_are_not_written_out() -> None:
    class Diagonal(nn.Module):
        def __init__(self, equation: str, count: int) -> None:
            super().__init__()
            self.equation, self.count = equation, count

        def forward(self, x: Tensor) -> Tensor:
            return torch.einsum(self.equation, *[x] * self.count)

    x = torch.ones(2, 2)
    for equation, count, message in (("ii->i", 1, "no diagonals and no ellipses"), ("ij,jk,kl->il", 3, "at most two operands; split it")):
        emulated = precision.emulate(Diagonal(equation, count), plan(HALF), x)
        with pytest.raises(UnsupportedError, match=f"layer 'einsum': einsum .*{message}"):
            emulated(x)
