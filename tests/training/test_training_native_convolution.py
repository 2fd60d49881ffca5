"""Convolution layers on the native kernels: gradients by finite differences and against float64, and the same learning curve."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from convsmith.training import Training, fit, native_convolution
from convsmith.training import convolution_ways as ways
from convsmith.training.native_convolution import NativeConv2d, conv2d, native_convolutions

CASES = [
    ((2, 4, 6, 5), (6, 4, 3, 3), (1, 1), (1, 1), (1, 1), 1),
    ((1, 3, 7, 6), (4, 3, 3, 3), (2, 2), (1, 1), (1, 1), 1),
    ((1, 4, 7, 7), (6, 2, 5, 3), (3, 2), (2, 1), (1, 1), 2),
    ((2, 5, 4, 4), (3, 5, 1, 1), (2, 2), (0, 0), (1, 1), 1),
    ((1, 6, 5, 6), (6, 1, 3, 3), (1, 1), (1, 1), (1, 1), 6),
    ((1, 2, 9, 8), (3, 2, 3, 3), (1, 1), (2, 2), (2, 2), 1),
    ((1, 2, 5, 5), (3, 2, 3, 3), (1, 1), (4, 4), (1, 1), 1),
]


@pytest.mark.parametrize("case", CASES)
def test_gradients_by_finite_differences(case: Any) -> None:
    """float64 goes the same way as float32, phases of the strides included, with torch's convolution at the bottom."""
    x_shape, w_shape, stride, padding, dilation, groups = case
    generator = torch.Generator().manual_seed(0)
    x, w = (torch.randn(size, generator=generator, dtype=torch.float64, requires_grad=True) for size in (x_shape, w_shape))
    assert torch.autograd.gradcheck(lambda a, b: conv2d(a, b, list(stride), list(padding), list(dilation), groups), (x, w))


@pytest.mark.parametrize("case", [*CASES, ((2, 40, 13, 12), (48, 40, 3, 3), (1, 1), (1, 1), (1, 1), 1)])
def test_every_native_way_against_float64(case: Any) -> None:
    """Within 1e-4 of the largest number: F(4x4,3x3) is held to 2e-5 of it on usual layers, sums over a few hundred pixels to less."""
    x_shape, w_shape, stride, padding, dilation, groups = case
    generator = torch.Generator().manual_seed(1)
    x, w = (torch.randn(size, generator=generator) for size in (x_shape, w_shape))
    sizes = native_convolution.sizes_of(list(stride), list(padding), list(dilation), groups)
    exact_x, exact_w = (t.double().requires_grad_() for t in (x, w))
    y = torch.nn.functional.conv2d(exact_x, exact_w, None, stride, padding, dilation, groups)
    dy = torch.randn(y.shape, generator=generator)
    y.backward(dy.double())

    def close(found: torch.Tensor, expected: torch.Tensor | None) -> None:
        assert expected is not None and (found - expected).abs().max() <= 1e-4 * expected.abs().max()

    for name in ways.names_for(x_shape, w_shape, sizes.attributes()):
        close(ways.convolve(name, x, w, sizes.attributes()), y.detach())
    for name in ways.gradient_names(x_shape, w_shape, sizes):
        close(ways.weight_gradient(name, dy, x, w_shape, sizes), exact_w.grad)
    if max(dilation) == 1 and all(p < size for p, size in zip(padding, w_shape[2:], strict=True)):
        names = native_convolution.image_names(dy, w, sizes)
        assert "gemm" in names
        for name in names:
            close(ways.input_gradient(dy, x_shape, w, sizes, lambda *given, name=name: ways.convolve(name, *given)), exact_x.grad)  # type: ignore[misc]


@pytest.mark.parametrize("last", [False, True])
def test_the_operators_keep_torchs_contract(last: bool) -> None:
    layout = torch.channels_last if last else torch.contiguous_format
    x, w = (torch.randn(size).contiguous(memory_format=layout).requires_grad_() for size in ((2, 3, 6, 6), (4, 3, 3, 3)))
    given, tests = ([1, 1], [1, 1], [1, 1], 1), ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(conv2d, (x, w, *given), test_utils=tests)
    dy = torch.randn(2, 4, 6, 6).contiguous(memory_format=layout)
    for operator in (native_convolution.conv2d_input_gradient, native_convolution.conv2d_weight_gradient):
        torch.library.opcheck(operator, (dy, x.detach(), w.detach(), *given), test_utils=("test_schema", "test_faketensor"))


def test_layers_change_their_way_and_back() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3, padding="same"))
    x = torch.randn(2, 3, 9, 9)
    expected = net(x)
    with native_convolutions(net):
        assert type(net[0]) is NativeConv2d
        y = net(x)
        assert torch.allclose(y, expected, atol=1e-5)
        with torch.autocast("cpu", torch.bfloat16):
            assert net(x).dtype == torch.bfloat16
    assert type(net[0]) is nn.Conv2d
    rows = ways.CHOICES.table()
    assert any(row["pass"] == "forward" and row["image"] == [2, 3, 9, 9] and row["way"] in row["ms"] for row in rows)


def test_training_has_the_same_learning_curve(make_net: Any, dataset: Any, preprocess: Any) -> None:
    """Losses of both within 2 % in the first epochs, before rounding has had time to part them, and the same bars learned."""
    given = {"epochs": 8, "batch": 16, "learning_rate": 0.1, "precision": "float32", "validate_every": 1}
    done = {
        kernels: fit(make_net(), dataset, Training(**given, kernels=kernels, deterministic=True), preprocess=preprocess)
        for kernels in ("torch", "native")
    }
    curves = {kernels: np.asarray([page["loss"] for page in result.history]) for kernels, result in done.items()}
    np.testing.assert_allclose(curves["native"][:3], curves["torch"][:3], rtol=0.02)
    assert abs(done["native"].best_accuracy - done["torch"].best_accuracy) <= 0.05
    assert not any(isinstance(part, NativeConv2d) for part in done["native"].module.modules())


def test_native_training_tells_what_was_chosen(make_net: Any, dataset: Any, preprocess: Any) -> None:
    events: list[tuple[str, dict[str, Any]]] = []

    class Ears:
        def event(self, kind: str, **fields: Any) -> None:
            events.append((kind, fields))

        def progress(self, stage: str, done: float, total: float, **fields: Any) -> None:
            pass

    fit(make_net(), dataset, Training(epochs=1, batch=16, kernels="native"), preprocess=preprocess, record=Ears())
    found = dict(events)
    assert found["plan"]["arithmetic"]["precision"] == "float32"
    rows = found["kernels"]["layers"]
    assert {row["pass"] for row in rows} >= {"forward", "weights"}
    for row in rows:
        assert row["way"] in row["ms"] and row["ms"][row["way"]] <= 1.03 * row["ms"]["torch"]


def test_bfloat16_and_plans_are_torchs() -> None:
    with pytest.raises(ValueError, match="kernels=native computes in float32 on the processor; set precision=float32, or kernels=torch"):
        Training(kernels="native", precision="bfloat16")
