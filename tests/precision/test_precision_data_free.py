"""Codes without images: what batch norms say is what is drawn, biases take rounding back, and the network keeps its answers."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

from convsmith import models, precision
from convsmith.errors import UnsupportedError
from convsmith.formats import Format
from convsmith.graph import Graph
from convsmith.interop import pytorch
from convsmith.precision import Plan, data_free
from convsmith.precision.code_layers import code_layers
from convsmith.precision.equalisation import equalise_by, pairs, reached, without_limits
from convsmith.precision.post_training import PostTraining, Recipe
from convsmith.redesign import fold_batch_norm

RNG = np.random.default_rng(0)
LOW, HIGH = np.full(3, -2.0), np.full(3, 2.5)


def network(name: str = "resnet20", size: int = 16) -> tuple[Graph, np.ndarray]:
    """Return a network whose batch norms have the statistics of some images, and images of the same kind."""
    torch.manual_seed(0)
    module = models.load(name, classes=5, in_channels=3, input_size=(size, size))
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.uniform_(part.bias, -0.5, 0.5)
            part.momentum = None
    images = RNG.uniform(-2.0, 2.5, (96, 3, size, size)).astype(np.float32)
    module.train()(torch.from_numpy(images))
    return pytorch.read(module.eval(), (1, 3, size, size)), images[:64]


def outputs(graph: Graph, x: np.ndarray) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}

    def note(node, output):
        found[node.outputs[0]] = output.detach().numpy()
        return output

    module = pytorch.write(graph).eval()
    module.on_output = note
    with torch.no_grad():
        module(torch.from_numpy(x))
    return found


def test_what_is_drawn_has_the_moments_of_the_norms() -> None:
    graph, x = network()
    folded, known = fold_batch_norm(graph), data_free.normals(graph)
    assert len(known) == 19
    ranges, means = data_free.draw(folded, known, LOW, HIGH)
    layer = folded.node("layer1.0.conv1")
    relu = next(node for node in folded if node.op == "Relu" and node.inputs[0] == layer.outputs[0])
    beta, gamma = known["layer1.0.conv1"].mean, known["layer1.0.conv1"].deviation
    seen = outputs(folded, x)[layer.outputs[0]]
    np.testing.assert_allclose(seen.mean(axis=(0, 2, 3)), beta, atol=0.05)  # the folded layer gives what the norm gave
    # the mean of a clipped normal number in closed form; half of its variance is shared by the pixels of each of the 32 images
    wanted = [
        g * math.exp(-((b / g) ** 2) / 2) / math.sqrt(2 * math.pi) + b * (1 + math.erf(b / g / math.sqrt(2))) / 2
        for b, g in zip(beta, gamma, strict=True)
    ]
    error = 4 * gamma * math.sqrt(0.5 / data_free.DRAWN + 0.5 / (data_free.DRAWN * 256))
    assert (np.abs(means[relu.outputs[0]] - wanted) < error).all()
    assert (ranges[folded.inputs[0].name].low, ranges[folded.inputs[0].name].high) == (-2.0, 2.5)
    assert ranges[relu.outputs[0]].low == 0 and ranges[relu.outputs[0]].high > float((beta + 3 * gamma).max())
    again = data_free.draw(folded, known, LOW, HIGH)[0]
    assert all(again[name].high == ranges[name].high for name in ranges.tensors)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_biases_take_back_what_rounding_adds_to_the_mean(groups: int) -> None:
    """Of images that are constant over each channel a convolution without padding has exactly the mean that was reckoned with."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(4, 8, 3, groups=groups), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)).eval()
    graph = pytorch.read(module, (1, 4, 3, 3))
    plan = precision.candidate("int8", precision.layout(graph)).plan
    rules = [dataclasses.replace(r, format=Format.integer(3, symmetric=True)) if r.role == "weight" else r for r in plan.rules]
    plan = Plan(tuple(rules), "w3")
    mean = np.array([0.7, -0.3, 0.2, 1.1])
    x = np.broadcast_to(mean.reshape(1, 4, 1, 1), (1, 4, 3, 3)).astype(np.float32)
    codes = precision.quantise(graph, plan, precision.calibrate(graph, x))
    values = outputs(graph, x)
    means = {graph.inputs[0].name: mean} | {n: v.mean(axis=tuple(range(2, v.ndim)))[0] for n, v in values.items() if v.ndim > 1}
    moved = data_free.move_biases(codes, graph, means)
    conv, dense = code_layers(moved)
    for layer in (conv, dense):
        weight = moved.weights[layer.codes] * layer.steps(moved)
        step = layer.bias_step if layer.bias_step is not None else np.float32(0)
        bias = moved.weights[layer.bias] * (step if layer.bias_step is not None else 1)
        read = means[graph.node(layer.node.name).inputs[0]]
        exact = graph.weights[graph.node(layer.node.name).inputs[1]].astype(np.float64)
        if layer is conv:
            blocks = np.repeat(read.reshape(groups, -1), 8 // groups, axis=0)
            found, wanted = (w.sum(axis=(2, 3)).astype(np.float64) * blocks for w in (weight, exact))
            found, wanted = found.sum(axis=1), wanted.sum(axis=1)
        else:
            turned = bool(layer.node.attributes.get("transB", 0))
            found, wanted = (read @ (w.T if turned else w) for w in (weight.astype(np.float64), exact))
        before = graph.weights[graph.node(layer.node.name).inputs[2]]
        # half a step for the move and half for the bias itself
        np.testing.assert_allclose(found + bias, wanted + before, atol=float(np.max(step)) * 1.01 + 1e-6)


def test_limits_that_are_reached_stay() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU6(), nn.Conv2d(8, 4, 3), nn.Flatten(), nn.Linear(64, 3)).eval()
    graph, x = pytorch.read(module, (1, 3, 8, 8)), RNG.standard_normal((8, 3, 8, 8)).astype(np.float32)
    clip = next(node.name for node in graph if node.op == "Clip")
    low, high = (precision.calibrate(graph, factor * x) for factor in (1, 20))
    assert reached(graph, low) == frozenset() and reached(graph, high) == {clip}
    assert len(pairs(without_limits(graph, reached(graph, low)))) == 1 and not pairs(without_limits(graph, reached(graph, high)))
    assert without_limits(graph, {clip}) is graph
    plan = precision.candidate("int8", precision.layout(graph)).plan
    for factor, measures in ((1, ("equalise", "bias")), (20, ("bias",))):
        assert PostTraining(graph, plan, factor * x).worth() == measures


def test_factors_of_equalisation_divide_the_outputs() -> None:
    graph, x = network("mobilenet_v2", 32)
    before = without_limits(fold_batch_norm(graph))
    after, factors = equalise_by(before)
    old, new = outputs(before, x[:2]), outputs(after, x[:2])
    assert len(factors) > 10
    for name, factor in factors.items():
        value = before.node(name).outputs[0]
        expected = old[value] / factor.reshape(1, -1, 1, 1)
        np.testing.assert_allclose(new[value], expected, atol=2e-4 * float(np.abs(expected).max()))


@pytest.mark.parametrize(("name", "size"), [("resnet20", 16), ("mobilenet_v2", 32)])
def test_a_network_keeps_its_answers(name: str, size: int) -> None:
    graph, x = network(name, size)
    plan = precision.candidate("int8", precision.layout(graph)).plan
    coded = data_free.without_images(graph, plan, LOW, HIGH)
    assert str(coded.recipe) == "max + equalise + bias"
    seen = PostTraining(graph, plan, x).make(Recipe("max", ("equalise", "bias")))
    with torch.no_grad():
        exact, blind, sighted = (pytorch.write(g).eval()(torch.from_numpy(x)).numpy() for g in (graph, coded.codes, seen.codes))
    errors = [float(np.sqrt(np.square(found - exact).mean())) for found in (blind, sighted)]
    # ranges of drawn numbers are wider than those seen on images: at most another bit of error
    assert 0 < errors[0] < 2 * errors[1], errors


def test_a_network_without_norms_is_refused() -> None:
    graph = fold_batch_norm(network()[0])
    plan = precision.candidate("int8", precision.layout(graph)).plan
    with pytest.raises(
        UnsupportedError, match=r"statistics of batch norms behind layers, and this network has none .* at least two images"
    ):
        data_free.without_images(graph, plan, LOW, HIGH)
