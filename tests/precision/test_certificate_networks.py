"""Proofs against machines: every order that is computed stays within the bounds, and bounds that are too small are caught."""

from __future__ import annotations

import itertools
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from precision_nets import pictures, residual_graph

from convsmith import formats, precision
from convsmith.errors import DataError, UnsupportedError, UsageError
from convsmith.formats import Format
from convsmith.graph.network import Graph, Node, Value
from convsmith.interop import pytorch
from convsmith.precision import Plan, Rule
from convsmith.precision.certificate import MACHINE_ORDERS, Certificates, Setting, certify, compute, describe
from convsmith.precision.certificate import proof as proofs
from convsmith.precision.certificate.enclosure import FLOAT64
from convsmith.precision.certificate.maxima import tournament
from convsmith.precision.certificate.steps import walk


def both(fmt: str, graph: Graph | None = None) -> tuple[Rule, ...]:
    found = formats.parse(fmt)
    return precision.uniform(found, found, precision.layout(graph or residual_graph())).rules


def sums(fmt: str, **how: Any) -> Rule:
    return Rule("*", "accumulator", formats.parse(fmt), moment="operation", **how)


PLANS = {
    "float32": Plan(),
    "bf16": Plan(both("bf16")),
    "e4m3": Plan(both("e4m3fn")),
    "int8": Plan(both("int8")),
    "fp16 sums": Plan((*both("fp16"), sums("fp16"))),
    "fp16 fused": Plan((*both("fp16"), sums("fp16", product=None))),
    "bf16 sums": Plan((*both("bf16"), sums("bf16", overflow="infinity"))),
    "truncated": Plan((*both("fp16"), sums("e8m15", rounding="toward_zero"))),
    "stochastic sums": Plan((*both("fp16"), sums("fp16", rounding="stochastic", random_bits=8))),
    "stochastic stores": Plan((Rule("*", "activation", formats.parse("bf16"), rounding="stochastic"),)),
    "fixed": Plan((*both("fixed<8,8>"), sums("fixed<12,12>"))),
    "other products": Plan((*both("e4m3fn"), sums("fp16", product=formats.parse("e5m7")))),
}


def deviations(setting: Setting, x: np.ndarray, found: Certificates) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Return for each order the classes and how far each difference of scores is from that of exact arithmetic."""
    result = []
    for order in MACHINE_ORDERS:
        y = compute(setting, x, order, seed=1).astype(np.float64)
        difference = y[np.arange(len(x)), found.classes][:, None] - y
        result.append((order, y.argmax(1), np.abs(difference - found.gaps)))
    return result


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_no_order_leaves_the_bounds_or_changes_a_proved_class(plan: Plan) -> None:
    graph, x = residual_graph(), pictures(100)
    setting = describe(graph, plan, x)
    found = certify(setting, x, exact=True)
    assert found.certain.mean() > 0.5 and (found.likely >= found.certain).all()
    for order, classes, error in deviations(setting, x, found):
        assert (error <= found.bounds).all(), order
        assert (classes == found.classes)[found.certain].all(), order
        assert (error <= found.likely_bounds).all(), order
    near = certify(setting, x)
    assert (near.classes == found.classes)[found.certain].all() and near.certain.mean() > 0.5


def test_a_bound_that_is_too_small_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """One and many terms that each addition loses: the error is near the bound, so that half of it does not hold."""
    n = 64
    weights = {"w": np.ones((2, n), np.float32) * np.array([[1], [-1]], np.float32)}
    graph = Graph("lost", (Value("x", (-1, n)),), (Value("y", (-1, 2)),), (Node("fc", "Gemm", ("x", "w"), ("y",), {"transB": 1}),), weights)
    x = np.full((1, n), 2.0**-8, np.float32)
    x[:, 0] = 1
    setting = describe(graph, Plan((sums("bf16"),)))

    def violated() -> bool:
        found = certify(setting, x, exact=True)
        return any((error > found.bounds).any() for _, _, error in deviations(setting, x, found))

    assert not violated()
    honest = proofs.layer_bounds

    def halved(*given: Any) -> Any:
        return {
            name: replace(b, relative=b.relative / 3, addition=b.addition / 3, compensated=b.compensated / 3, plain=b.plain / 3)
            for name, b in honest(*given).items()
        }

    monkeypatch.setattr(proofs, "layer_bounds", halved)
    assert violated()


def test_rounding_left_out_of_the_proof_is_caught() -> None:
    """A proof of the float32 network does not hold for the machine of a narrow one."""
    graph, x = residual_graph(), pictures(50)
    found = certify(describe(graph, Plan()), x, exact=True)
    narrow = describe(graph, PLANS["e4m3"])
    assert all((error > found.bounds).any() for _, _, error in deviations(narrow, x, found))


def test_a_class_that_an_order_changes_has_no_proof() -> None:
    """Two scores a little more apart than what one order loses: the class changes in that order and not in others."""
    n = 33
    w = np.ones((2, n), np.float32)
    w[1, 1:] = 0
    w[1, 0] = 1 + 2.0**-7
    graph = Graph(
        "close", (Value("x", (-1, n)),), (Value("y", (-1, 2)),), (Node("fc", "Gemm", ("x", "w"), ("y",), {"transB": 1}),), {"w": w}
    )
    x = np.full((1, n), 2.0**-8, np.float32)
    x[:, 0] = 1
    setting = describe(graph, Plan((sums("bf16"),)))
    classes = {order: int(compute(setting, x, order).argmax(1)[0]) for order in MACHINE_ORDERS}
    assert classes["sequential"] == 1 and classes["kahan"] == 0
    found = certify(setting, x, exact=True)
    assert not found.certain[0] and found.reasons[0] == "the bound exceeds the margin"
    wide = certify(describe(graph, Plan()), x, exact=True)
    assert wide.certain[0] and wide.classes[0] == 0


def test_every_order_of_a_tiny_network_in_fractions() -> None:
    """Two layers of three terms, products and sums in e4m3: all combinations of orders, by exact fractions and the specification."""
    rng = np.random.default_rng(5)
    fmt = formats.parse("e4m3fn")
    w1, w2 = (formats.round_array(rng.normal(size=(3, 3)), fmt) for _ in range(2))
    nodes = (
        Node("one", "Gemm", ("x", "w1"), ("h",), {"transB": 1}),
        Node("relu", "Relu", ("h",), ("r",)),
        Node("two", "Gemm", ("r", "w2"), ("y",), {"transB": 1}),
    )
    graph = Graph("tiny", (Value("x", (-1, 3)),), (Value("y", (-1, 3)),), nodes, {"w1": w1, "w2": w2})
    plan = Plan((*(Rule("*", role, fmt) for role in ("weight", "activation")), sums("e4m3fn")))
    setting = describe(graph, plan)
    x = formats.round_array(rng.normal(size=(12, 3)), fmt)
    found = certify(setting, x, exact=True)

    def fl(value: Fraction) -> Fraction:
        return Fraction(formats.round_scalar(value, fmt))

    def outcomes(w: np.ndarray, inputs: list[Fraction]) -> list[Fraction]:
        p = [fl(Fraction(float(a)) * b) for a, b in zip(w, inputs, strict=True)]
        return sorted({fl(fl(p[i] + p[j]) + p[k]) for i, j, k in itertools.permutations(range(3))})

    for image, (c, gaps, bounds) in enumerate(zip(found.classes, found.gaps, found.bounds, strict=True)):
        hidden = [outcomes(row, [Fraction(float(v)) for v in x[image]]) for row in w1]
        for chosen in itertools.product(*hidden):
            scores = [outcomes(row, [max(v, Fraction(0)) for v in chosen]) for row in w2]
            for k in range(3):
                for high, low in itertools.product(scores[c], scores[k]):
                    assert k == c or abs(float(high - low) - gaps[k]) <= bounds[k]
                    assert k == c or not found.certain[image] or high > low


def test_exact_arithmetic_is_enclosed() -> None:
    """The scores without rounding, in fractions, lie within radii of float64 size."""
    graph = residual_graph()
    x = pictures(1)
    scores = walk(graph, torch.from_numpy(x), None, {}, numbers=FLOAT64).values["fc"]
    w = {name: np.vectorize(Fraction)(array.astype(np.float64)) for name, array in graph.weights.items()}
    padded = np.pad(np.vectorize(Fraction)(x[0].astype(np.float64)), ((0, 0), (1, 1), (1, 1)), constant_values=Fraction(0))
    stem = np.empty((4, 8, 8), object)
    for k, i, j in itertools.product(range(4), range(8), range(8)):
        stem[k, i, j] = max((padded[:, i : i + 3, j : j + 3] * w["stem.weight"][k]).sum() + w["stem.bias"][k], Fraction(0))
    added = np.maximum(np.einsum("kc,cij->kij", w["block.conv.weight"][:, :, 0, 0], stem) + stem, Fraction(0))
    pooled = added.reshape(4, 4, 2, 4, 2).max((2, 4))
    exact = w["fc.weight"] @ (pooled.sum((1, 2)) / 16) + w["fc.bias"]
    for value, centre, radius in zip(exact, scores.centre[0].tolist(), scores.radius[0].tolist(), strict=True):
        assert abs(value - Fraction(centre)) <= Fraction(radius) and radius < 1e-11


def test_a_maximum_lies_between_its_lines() -> None:
    generator = torch.Generator().manual_seed(0)
    for size in (1, 2, 3, 4, 9):
        low = torch.randn(400, size, generator=generator, dtype=torch.float64)
        high = low + 2 * torch.rand(400, size, generator=generator, dtype=torch.float64)
        high[::3] = low[::3]
        pairs = tournament(low, high)
        assert torch.allclose(pairs.weights.sum(1), torch.ones(400, dtype=torch.float64)) and (pairs.weights >= 0).all()
        for corner in itertools.product((0.0, 0.5, 1.0), repeat=min(size, 5)):
            part = torch.tensor(corner + (0.3,) * (size - len(corner)), dtype=torch.float64)
            x = low + part * (high - low)
            above = x.amax(1) - (pairs.weights * x).sum(1)
            assert (above >= -1e-12).all() and (above <= 2 * pairs.bounded + 1e-12).all()


@pytest.mark.parametrize("kind", ["average pool", "concat", "leaky", "clip", "depthwise", "overlapping pool"])
def test_every_operator_keeps_the_bounds(kind: str) -> None:
    torch.manual_seed(3)
    nn = torch.nn
    middle = {
        "average pool": nn.Sequential(nn.ReLU(), nn.AvgPool2d(3, 2, 1)),
        "concat": Concatenated(),
        "leaky": nn.Sequential(nn.LeakyReLU(0.1), nn.MaxPool2d(2)),
        "clip": nn.Sequential(nn.ReLU6(), nn.MaxPool2d(2)),
        "depthwise": nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1, stride=2, groups=4)),
        "overlapping pool": nn.Sequential(nn.MaxPool2d(3, 2, 1), nn.ReLU()),
    }[kind]
    module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), middle, nn.Flatten(), nn.LazyLinear(4)).eval()
    module(torch.zeros(1, 3, 8, 8))
    graph, x = pytorch.read(module, (1, 3, 8, 8)), pictures(40)
    for rules in (both("bf16", graph), (*both("fp16", graph), sums("fp16")), both("e4m3fn", graph)):
        setting = describe(graph, Plan(rules))
        found = certify(setting, x, exact=True)
        assert np.isfinite(found.bounds).all()
        for order, classes, error in deviations(setting, x, found):
            assert (error <= found.bounds).all() and (error <= found.likely_bounds).all(), order
            assert (classes == found.classes)[found.certain].all(), order


class Concatenated(torch.nn.Module):
    """Two convolutions side by side, one of them added to itself."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = torch.nn.Conv2d(4, 2, 1), torch.nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left = self.left(x)
        return torch.cat([torch.relu(left + left), self.right(x)], 1)


def test_the_machine_in_float32_is_the_network() -> None:
    """In float32 the machine differs from torch by the order of additions alone."""
    graph, x = residual_graph(), pictures(20)
    setting = describe(graph, Plan())
    with torch.no_grad():
        plain = pytorch.write(graph)(torch.from_numpy(x)).numpy()
    for order in MACHINE_ORDERS:
        np.testing.assert_allclose(compute(setting, x, order), plain, rtol=1e-4, atol=1e-4)
    with pytest.raises(UsageError, match="there is no order 'backwards'; there are sequential, pairwise"):
        compute(setting, x, "backwards")  # type: ignore[arg-type]


def test_narrow_stores_are_those_of_emulation() -> None:
    """With float32 sums the machine stores what ``precision.emulate`` does, up to a rounding that an order of additions turns."""
    graph, x = residual_graph(), pictures(50)
    plan = PLANS["bf16"]
    with torch.no_grad():
        emulated = precision.emulate(graph, plan)(torch.from_numpy(x)).numpy()
    found = certify(describe(graph, plan), x, exact=True)
    difference = emulated[np.arange(50), found.classes][:, None].astype(np.float64) - emulated
    assert (np.abs(difference - found.gaps) <= found.bounds).all()


def test_tight_where_only_stores_are_narrow() -> None:
    """What rounding does to the image at hand is computed, not bounded: the median bound is within twice the error observed."""
    graph, x = residual_graph(), pictures(100)
    setting = describe(graph, PLANS["bf16"])
    found = certify(setting, x, exact=True)
    error = np.max([error for _, _, error in deviations(setting, x, found)], axis=0)
    assert np.median(found.bounds[error > 0] / error[error > 0]) < 2


def test_what_saturates_has_no_proof() -> None:
    graph, x = residual_graph(), pictures(20)
    found = certify(describe(graph, Plan((*both("fixed<3,8>"), sums("fixed<3,8>")))), x)
    assert not found.certain.any() and set(found.reasons) == {"sums may overflow in layer 'stem'"}
    found = certify(describe(graph, Plan((Rule("*", "activation", Format.fixed(2, 4), overflow="wrap"),))), 8 * x)
    assert not found.certain.any() and set(found.reasons) == {"values of layer 'x' may wrap around"}
    flat = certify(describe(graph, Plan((Rule("*", "activation", Format.fixed(-6, 8)),))), x)
    assert not flat.certain.all() and set(flat.reasons) <= {"the bound exceeds the margin", ""}
    found = certify(describe(graph, Plan((sums("e5m1", rounding="toward_zero"),))), x)
    assert not found.certain.any() and "have no bound: too many terms for so few bits" in found.reasons[0]


def test_what_cannot_be_certified_is_named_before_anything_runs() -> None:
    graph = residual_graph()
    weights = dict(graph.weights)
    tanh = Graph("t", graph.inputs, graph.outputs, tuple(replace(n, op="Tanh") if n.op == "Relu" else n for n in graph), weights)
    with pytest.raises(
        UnsupportedError, match=r"no certificate for Tanh \(node 'relu'\), Tanh \(node 'block.relu'\); there is one for Add"
    ):
        describe(tanh, Plan())
    with pytest.raises(UsageError, match=r"rule 1 \('stam', weight\) matches nothing; layers .* Did you mean 'stem'\?"):
        describe(graph, Plan((Rule("stam", "weight", Format.float(5, 2)),)))
    with pytest.raises(
        UnsupportedError, match="role 'error' belongs to training; a certificate is for inference: weight, bias, activation, accumulator"
    ):
        describe(graph, Plan((Rule("*", "error", Format.float(5, 2)),)))
    with pytest.raises(UsageError, match="sums go below zero, and ufixed<8,8> does not; take a signed format"):
        describe(graph, Plan((sums("ufixed<8,8>"),)))
    with pytest.raises(UnsupportedError, match="no certificate for activations in block"):
        describe(graph, Plan((Rule("*", "activation", formats.parse("mxfp8_e4m3")),)))
    with pytest.raises(UsageError, match="activations need ranges; give calibration images"):
        describe(graph, PLANS["int8"])


def test_images_that_cannot_be_certified() -> None:
    setting = describe(residual_graph(), Plan())
    x = pictures(4)
    x[2, 0, 3, 3] = np.nan
    with pytest.raises(DataError, match=r"1 of 4 images hold NaN or infinities \(number 2\); leave them out"):
        certify(setting, x)
    with pytest.raises(DataError, match=r"takes float32 images \(n, 3, 8, 8\), at least one; got torch.float32, \(4, 3, 9, 8\)"):
        certify(setting, np.zeros((4, 3, 9, 8), np.float32))
    with pytest.raises(UsageError, match="failure is a probability above 0 and below 1; got 0"):
        certify(setting, pictures(1), failure=0)
    tie = certify(setting, np.zeros((1, 3, 8, 8), np.float32), exact=True)
    assert tie.reasons == ("",)
