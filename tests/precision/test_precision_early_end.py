"""A plan given up early is one that would have failed, and coarse steps before a saturated function count as what they really do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from convsmith import precision
from convsmith.graph.network import Graph, Node, Value
from convsmith.interop import pytorch
from convsmith.precision import Plan, find_plan
from convsmith.precision.certificate.layer import Layer
from convsmith.precision.choices import choices
from convsmith.precision.sensitivity import measure

torch.manual_seed(1)
GRAPH = pytorch.read(nn.Sequential(nn.Flatten(), nn.Linear(192, 10)).eval(), (1, 3, 8, 8))
X = np.random.default_rng(5).standard_normal((300, 3, 8, 8)).astype(np.float32)
SCORE = precision.scorer(GRAPH, X, precision.emulate(GRAPH, Plan())(torch.from_numpy(X)).argmax(1).numpy())


@pytest.mark.parametrize("wrong", [0.0, 0.2])
def test_an_early_end_decides_as_all_images_do(wrong: float) -> None:
    """With labels of which some are wrong, so that a plan can win answers back."""
    rng = np.random.default_rng(3)
    labels = np.where(rng.random(len(X)) < wrong, rng.integers(0, 10, len(X)), SCORE._labels)
    score = precision.scorer(GRAPH, X, labels)
    options, base, parts = choices(GRAPH, None, "both"), score(None), []
    for bits, fmt in enumerate(options.formats):
        plan = options.plan({group.tensor: fmt for group in options.groups})
        whole = score(plan)
        for limit in (0.0, 1.0, 5.0, 20.0):
            found, against = score.until(plan, base, limit)
            holds = 100 * (base.accuracy - whole.accuracy) <= limit + 1e-9
            assert (100 * (against.accuracy - found.accuracy) <= limit + 1e-9) == holds, (bits, limit)
            assert found.n == against.n and (found.n == len(X) or not holds)
            parts.append(found.n / len(X))
            if found.n == len(X):
                assert np.array_equal(found.correct, whole.correct)
    assert min(parts) < 0.5


def test_a_search_counts_the_parts_of_passes_that_it_made() -> None:
    seen: list[Any] = []
    found = find_plan(GRAPH, SCORE, None, 1.0, images=X[:64], on_point=seen.append)
    spent = sum(point.n for point in seen) / len(X)
    accumulating = found.evaluations + found.uniform_evaluations
    assert accumulating == pytest.approx(spent) and spent < len(seen)
    assert found.point is not None and found.point.n == len(X) and found.point.drop <= 1.0


def test_coarse_steps_before_a_saturated_tanh_are_seen() -> None:
    """Inputs at 6 and -6 send no derivative back through tanh; rounded to the ends -2 and 1 of int2's range they change what comes out."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 16, bias=False), nn.Tanh(), nn.Linear(16, 3))
    with torch.no_grad():
        network[1].weight.copy_(6 * torch.eye(16))
    graph = pytorch.read(network.eval(), (1, 1, 4, 4))
    x = np.sign(np.random.default_rng(0).standard_normal((200, 1, 4, 4))).astype(np.float32)
    x[:, 0, 0, 0] *= 20  # the range: one step of two bits is 40 of 120, so that 6 becomes nothing
    options = choices(graph, ["int2", "int8"], "both")
    tensor = next(group.tensor for group in options.groups if group.role == "activation" and group.layers[0] == "1")
    found = measure(graph, options, x, precision.calibrate(graph, x))
    coarse, fine = (found.noise[tensor, fmt] for fmt in options.formats)
    assert coarse > 0.3 and fine < 0.01, "tanh(0) is not tanh(6)"


@pytest.mark.parametrize(
    ("attributes", "groups"),
    [
        ({"pads": (1, 1, 1, 1)}, 1),
        ({"pads": (0, 1, 1, 2), "strides": (2, 2)}, 1),
        ({"strides": (2, 1), "dilations": (2, 1), "pads": (2, 0, 2, 0)}, 1),
        ({"pads": (1, 1, 1, 1), "group": 2}, 2),
    ],
)
def test_the_way_back_through_a_convolution_is_its_transpose(attributes: dict[str, Any], groups: int) -> None:
    """The dot product of a layer's output with weights is that of its input with what they come to."""
    rng = np.random.default_rng(1)
    w = rng.standard_normal((4, 6 // groups, 3, 3)).astype(np.float32)
    node = Node("conv", "Conv", ("x", "w"), ("y",), attributes)
    graph = Graph("one", (Value("x", (-1, 6, 9, 8)),), (Value("y", (-1, 4, 9, 8)),), (node,), {"w": w})
    layer = Layer(graph, node, torch.float64)
    x = torch.from_numpy(rng.standard_normal((3, 6, 9, 8)))
    y = layer(x)[0]
    g = torch.from_numpy(rng.standard_normal(tuple(y.shape)))
    back = layer.back(g, (6, 9, 8))
    assert back.shape == x.shape
    torch.testing.assert_close((g * y).flatten(1).sum(1), (back * x).flatten(1).sum(1), rtol=1e-10, atol=1e-10)
