"""Codes without training: each step against a closed form, a brute-force search, or the float32 network it must not change."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from convsmith import compiler, formats, precision
from convsmith.errors import UnsupportedError, UsageError
from convsmith.graph import Graph, Node, Value
from convsmith.interop import pytorch
from convsmith.precision import Plan, Rule, adaptive_rounding
from convsmith.precision.adaptive_rounding import round_adaptively
from convsmith.precision.bias_correction import correct_biases
from convsmith.precision.code_layers import code_layers
from convsmith.precision.code_training import CodeTraining
from convsmith.precision.equalisation import equalise, pairs, without_limits
from convsmith.precision.post_training import PostTraining, Recipe
from convsmith.redesign import fold_batch_norm


def small(relu: type[nn.Module] = nn.ReLU) -> tuple[Graph, np.ndarray]:
    """A dense, a depthwise and a pointwise layer with channels of very different sizes, and what they read."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), relu(), nn.Conv2d(8, 8, 3, padding=1, groups=8), relu(), nn.Conv2d(8, 6, 1), relu(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4),
    )  # fmt: skip
    with torch.no_grad():
        module[0].weight *= torch.logspace(-2, 1, 8).reshape(-1, 1, 1, 1)
    x = np.random.default_rng(0).standard_normal((48, 3, 8, 8)).astype(np.float32)
    return fold_batch_norm(pytorch.read(module.eval(), (1, 3, 8, 8))), x


def plan_of(graph: Graph, bits: int = 8) -> Plan:
    plan = precision.candidate("int8", precision.layout(graph)).plan
    narrow = formats.Format.integer(bits, symmetric=True)
    return Plan(tuple(dataclasses.replace(rule, format=narrow) if rule.role == "weight" else rule for rule in plan.rules), f"w{bits}")


def run(graph: Graph, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(pytorch.write(graph)(torch.from_numpy(x)).numpy())


def test_equalised_layers_have_equal_ranges_and_the_same_function() -> None:
    graph, x = small()
    found = equalise(graph)
    assert [(pair.first.name, pair.second.name) for pair in pairs(graph)] == [("0", "2"), ("2", "4")]
    first, depthwise, last = (np.abs(found.weights[f"{name}.weight"]) for name in "024")
    # at the end of Nagel et al. 2019 the ranges of every channel are equal in all layers that share it
    np.testing.assert_allclose(first.max((1, 2, 3)), depthwise.max((1, 2, 3)), rtol=1e-3)
    np.testing.assert_allclose(depthwise.max((1, 2, 3)), last.max((0, 2, 3)), rtol=1e-3)
    np.testing.assert_allclose(run(found, x), run(graph, x), rtol=2e-5, atol=2e-5)


def test_clips_become_relus_only_where_asked() -> None:
    graph, x = small(nn.ReLU6)
    assert not pairs(graph)
    found = without_limits(graph)
    assert len(pairs(found)) == 2
    np.testing.assert_array_equal(run(found, x / 100), run(graph, x / 100))  # nothing reaches 6


def test_corrected_biases_give_every_channel_its_mean() -> None:
    """To half a unit of a sum, which is what a bias of codes can do; in layers of exact sums the mean is otherwise exact."""
    graph, x = small()
    codes = precision.quantise(graph, plan_of(graph, 4), precision.calibrate(graph, x))
    found = correct_biases(codes, graph, x)

    def means(network: Graph) -> dict[str, np.ndarray]:
        seen: dict[str, np.ndarray] = {}

        def note(node: Node, output: torch.Tensor) -> torch.Tensor:
            if node.op in ("Conv", "Gemm"):
                seen[node.name] = output.double().mean([axis for axis in range(output.dim()) if axis != 1]).numpy()
            return output

        module = pytorch.write(network)
        module.on_output = note
        with torch.no_grad():
            module(torch.from_numpy(x))
        return seen

    wanted, before, after = means(graph), means(codes), means(found)
    moved = 0.0
    for layer in code_layers(found):
        name = layer.node.name
        step = np.float32(0) if layer.bias_step is None else layer.bias_step
        assert (np.abs(after[name] - wanted[name]) <= 0.5 * step + 1e-5).all()
        moved = max(moved, float((np.abs(before[name] - wanted[name]) / (step + 1e-5)).max()))
    assert moved > 10


def test_rounding_up_or_down_is_among_the_best_of_all_choices() -> None:
    """One layer of six weights has 64 roundings, all of which are tried; nearest rounding is far from the best."""
    rng = np.random.default_rng(3)
    weights = {"w": np.float32([[0.43, 1.45, -0.61, 0.36, 0.44, 7.0]]), "b": np.zeros(1, np.float32)}
    graph = Graph(
        "one", (Value("x", (-1, 6)),), (Value("y", (-1, 1)),), (Node("y", "Gemm", ("x", "w", "b"), ("y",), {"transB": 1}),), weights
    )
    mixed = rng.standard_normal((512, 1)) + 0.3 * rng.standard_normal((512, 6))  # correlated inputs: errors add up unless they cancel
    x = mixed.astype(np.float32)
    plan = Plan((Rule("y", "weight", formats.parse("int4:symmetric"), scale="channel"),), "w4")
    codes = precision.quantise(graph, plan)
    (layer,) = code_layers(codes)
    step = codes.weights[layer.scale].reshape(-1)

    def error(whole: Any) -> float:
        return float(np.square(x @ (np.asarray(whole) * step - weights["w"][0])).mean())

    floor = np.floor(weights["w"][0] / step)
    best = min((floor + np.array(ups) for ups in itertools.product((0, 1), repeat=6) if (floor + np.array(ups)).max() <= 7), key=error)
    x_rows, target = torch.from_numpy(x)[:, None, :], torch.from_numpy(x @ weights["w"].T)
    found = adaptive_rounding._Fit(codes, graph, layer, x_rows, target).run(600, 0).numpy()
    assert error(best) < 0.8 * error(codes.weights[layer.codes][0])
    ranked = sorted(error(floor + np.array(ups)) for ups in itertools.product((0, 1), repeat=6) if (floor + np.array(ups)).max() <= 7)
    # descent from one start: among the best eighth of all choices, and 10 times better than the nearest codes
    assert error(found[0]) <= 1.0001 * ranked[len(ranked) // 8 - 1]
    assert error(found[0]) < 0.1 * error(codes.weights[layer.codes][0])


def test_adaptive_rounding_comes_nearer_and_stays_within_one_code() -> None:
    graph, x = small()
    codes = precision.quantise(graph, plan_of(graph, 3), precision.calibrate(graph, x))
    found = round_adaptively(codes, graph, x, steps=120)
    for layer in code_layers(codes):
        assert np.abs(found.weights[layer.codes].astype(int) - codes.weights[layer.codes]).max() <= 1
        assert np.abs(found.weights[layer.codes]).max() <= 3
    expected = run(graph, x)
    assert np.square(run(found, x) - expected).mean() < 0.7 * np.square(run(codes, x) - expected).mean()


def test_least_squared_error_ranges_beat_all_others_tried() -> None:
    rng = np.random.default_rng(1)
    w = rng.standard_t(3, (4, 500)).astype(np.float32)
    rule = Rule("*", "weight", formats.parse("int4:symmetric"), scale="channel", range="mse")
    from convsmith.precision.affine_range import weight_steps

    steps, axis = weight_steps(w, rule, 0)
    assert axis == 0 and steps is not None

    def error(step: np.ndarray) -> np.ndarray:
        scale = step.reshape(-1, 1)
        return np.square(np.clip(np.rint(w / scale), -7, 7) * scale - w).sum(1)

    for share in np.linspace(0.05, 1, 40):
        assert (error(steps) <= 1.01 * error(np.abs(w).max(1) * share / 7)).all()
    with pytest.raises(
        UsageError, match="range 'mse' is for integers and signs with scale 'tensor' or 'channel', not for e5m2 with 'tensor'"
    ):
        Rule("*", "weight", formats.parse("e5m2"), scale="tensor", range="mse")


def test_choosing_keeps_what_lowers_the_error() -> None:
    graph, x = small()
    work = PostTraining(graph, plan_of(graph, 4), x)
    assert work.worth() == ("equalise", "round", "bias")
    found = work.choose(["equalise", "bias"])
    assert found.error == min(trial.error for trial in found.trials)
    assert found.error < next(trial.error for trial in found.trials if trial.recipe == Recipe())
    assert len(found.trials) == 5
    expected = run(graph, x[-12:])
    best = expected.argmax(1)
    margins = [np.delete(row[best[i]] - row, best[i]) for i, row in enumerate(expected)]
    changed = [np.delete(row[best[i]] - row, best[i]) for i, row in enumerate(run(found.codes, x[-12:]))]
    assert 0 < found.error < 1
    if all((c > 0).all() for c in changed) and all((np.abs(c - m) < 0.1 * m).all() for c, m in zip(changed, margins, strict=True)):
        assert found.error < 0.01  # nothing near another answer


def test_what_cannot_be_asked_for() -> None:
    graph, x = small()
    with pytest.raises(UsageError, match=r"nothing called 'biass' to do; there are equalise, round, bias\. Did you mean 'bias'\?"):
        Recipe("max", ("biass",))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="codes are fitted on some images and judged on others; got 1, give at least 2"):
        PostTraining(graph, plan_of(graph), x[:1])


def test_a_network_in_training_is_the_codes_it_gives() -> None:
    """Before training: the same codes. After: what the module computed is what its codes compute, to the rounding of float32 sums."""
    graph, x = small()
    codes = precision.quantise(graph, plan_of(graph, 2), precision.calibrate(graph, x))
    module = CodeTraining(codes, graph)
    for layer in code_layers(codes):
        np.testing.assert_array_equal(module.to_codes().weights[layer.codes], codes.weights[layer.codes])
    images, wanted = torch.from_numpy(x), torch.from_numpy(run(graph, x))
    optimizer = torch.optim.Adam(module.parameters(), lr=2e-3)
    losses = []
    for _ in range(40):
        loss = (module(images) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    trained = module.to_codes()
    assert any((trained.weights[layer.codes] != codes.weights[layer.codes]).any() for layer in code_layers(codes))
    with torch.no_grad():
        learned = module.eval()(images).numpy()
    # biases are whole numbers of sums in the codes, and a code at a tie may be the next one
    assert np.abs(run(trained, x) - learned).max() <= 0.02 * np.abs(learned).max()
    np.testing.assert_array_equal(compiler.build(trained, threads=1)(x), pytorch.write(compiler.simplify(trained))(images).detach().numpy())


def test_steps_of_channels_have_the_gradient_of_their_channel_alone() -> None:
    from convsmith.precision.pseudo_gradients import LearnedStep

    torch.manual_seed(1)
    x, steps = torch.randn(3, 10), torch.tensor([[0.2], [0.5], [0.1]], requires_grad=True)
    LearnedStep.apply(x, steps, -7.0, 7.0).sum().backward()
    for row in range(3):
        step = steps.detach()[row, 0].clone().requires_grad_()
        LearnedStep.apply(x[row], step, -7.0, 7.0).sum().backward()
        assert steps.grad is not None and step.grad is not None
        assert steps.grad[row, 0].item() == pytest.approx(step.grad.item(), rel=1e-6)


@pytest.mark.parametrize(("name", "bits"), [("bf16", 16), ("fp16", 16)])
def test_weights_in_16_bits_are_rounded_numbers(name: str, bits: int) -> None:
    graph, _ = small()
    found = precision.quantise(graph, precision.candidate(name, precision.layout(graph), "weight").plan)
    for key, w in graph.weights.items():
        tensor = torch.from_numpy(w.copy())
        expected = tensor.to(torch.bfloat16 if name == "bf16" else torch.float16).float().numpy()
        np.testing.assert_array_equal(found.weights[key], expected if w.size > 1 else w)
    with pytest.raises(UnsupportedError, match="whose weights may be stored in bf16 or fp16"):
        precision.quantise(graph, precision.candidate(name, precision.layout(graph)).plan)
