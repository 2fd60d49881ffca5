"""Losses of edits from one backward pass, statistics corrected, and a teacher's scores in the loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from convsmith import data, models, redesign, training
from convsmith.errors import DataError, UsageError
from convsmith.graph import Graph, with_weights
from convsmith.interop import pytorch
from convsmith.redesign import Edit
from convsmith.redesign.noise import answer_noise
from convsmith.training import losses
from convsmith.training.correction import correct, statistics
from convsmith.training.edit_losses import EditLosses, weight_gradients
from convsmith.training.normalised import NormalisedNetwork

RNG = np.random.default_rng(0)


def network() -> Graph:
    torch.manual_seed(0)
    module = models.load("resnet20", classes=5)
    module.train()
    module(torch.from_numpy(RNG.standard_normal((64, 3, 16, 16), np.float32)))  # statistics of batch norm
    return pytorch.read(module.eval(), (1, 3, 16, 16))


def run(graph: Graph, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(pytorch.write(graph).eval()(torch.from_numpy(x)).numpy())


def test_losses_of_small_edits_are_those_of_running_the_network() -> None:
    graph, x = network(), RNG.standard_normal((96, 3, 16, 16)).astype(np.float32)
    estimate, before = EditLosses(graph, x), run(graph, x)
    for edit in (
        Edit("tucker", "layer2.1.conv1", {"out_rank": 30, "in_rank": 30}),
        Edit("spatial", "layer1.0.conv2", {"rank": 40}),
        Edit("low_rank", "linear", {"rank": 4}),
        Edit("prune", "layer3.1.conv1", {"channels": (0, 1)}),
    ):
        edited = redesign.apply(graph, [edit])
        assert estimate(edit, edited) == pytest.approx(answer_noise(before, run(edited, x)), rel=0.5), edit
    exact = Edit("tucker", "layer1.0.conv1", {"out_rank": 16, "in_rank": 16})
    assert estimate(exact, redesign.apply(graph, [exact])) < 1e-6
    assert estimate(Edit("skip", "layer2.1.add", {"keep": 1}), redesign.apply(graph, [Edit("skip", "layer2.1.add", {"keep": 1})])) > 1e-3
    with pytest.raises(DataError, match="losses need images"):
        EditLosses(graph, x[:0])


def test_noise_of_answers_by_hand() -> None:
    logits, changed = np.array([[3.0, 1.0, 0.0], [0.0, 4.0, 3.0]]), np.array([[3.0, 2.0, 0.0], [0.0, 3.0, 4.0]])
    # margins 2 and 1 fall by 1 and by 2
    assert answer_noise(logits, changed) == pytest.approx((1 / 5 + 4 / 5) / 2)
    assert answer_noise(logits, logits) == 0
    with pytest.raises(DataError, match="at least one and two"):
        answer_noise(logits[:, :1], changed[:, :1])


def test_gradients_of_weights_are_those_of_torch() -> None:
    graph, x, labels = network(), RNG.standard_normal((80, 3, 16, 16)).astype(np.float32), RNG.integers(0, 5, 80)
    found = weight_gradients(graph, x, labels)
    weight, step = graph.weights["linear.bias"], 1e-2
    for index in range(2):
        shifted = []
        for sign in (1, -1):
            moved = weight.copy()
            moved[index] += sign * step
            scores = torch.from_numpy(
                run(Graph(graph.name, graph.inputs, graph.outputs, graph.nodes, {**graph.weights, "linear.bias": moved}), x)
            )
            shifted.append(float(nn.functional.cross_entropy(scores.double(), torch.from_numpy(labels))))
        assert found["linear.bias"][index] == pytest.approx((shifted[0] - shifted[1]) / (2 * step), rel=1e-2, abs=1e-5)


def test_corrected_layers_have_the_old_statistics() -> None:
    graph, x = network(), RNG.standard_normal((128, 3, 16, 16)).astype(np.float32)
    edits = [Edit("prune", "layer1.1.conv1", {"channels": (0, 3, 5, 9)}), Edit("tucker", "layer2.1.conv1", {"out_rank": 28, "in_rank": 28})]
    edited = redesign.apply(graph, edits)
    corrected = correct(graph, edited, x)
    folded = redesign.apply(graph, [Edit("fold")])
    wanted, found = statistics(folded, x), statistics(corrected, x)
    for layer in ("layer1.1.conv2", "layer2.1.conv1", "layer3.2.conv2", "linear"):
        for one, other in zip(wanted[layer], found[layer], strict=True):
            np.testing.assert_allclose(other.numpy(), one.numpy(), atol=2e-4 * float(one.abs().max()))
    errors = [np.square(run(candidate, x) - run(graph, x)).mean() for candidate in (edited, corrected)]
    assert errors[1] < errors[0]
    same = correct(graph, graph, x)
    np.testing.assert_allclose(run(same, x), run(graph, x), atol=1e-4)


def test_a_teacher_in_the_loss() -> None:
    config = training.Training(distil=0.25, temperature=2.0)
    logits, teacher = torch.tensor([[1.0, 0.0, -1.0]]), torch.tensor([[0.0, 2.0, 0.0]])
    p, q = (np.exp(z / 2) / np.exp(z / 2).sum() for z in (teacher.numpy()[0].astype(float), logits.numpy()[0].astype(float)))
    wanted = 0.75 * 3.0 + 0.25 * 4 * float((p * np.log(p / q)).sum())
    assert float(losses.distilled(torch.tensor([3.0]), logits, teacher, config)[0]) == pytest.approx(wanted, rel=1e-5)


def test_a_network_learns_from_a_teacher_alone() -> None:
    dataset = data.open("digits")
    preprocess, _ = data.choose_preprocess(dataset, None)
    shape = (preprocess.height, preprocess.width)
    torch.manual_seed(0)
    teacher = models.load("mlp", classes=10, in_channels=preprocess.channels, input_size=shape)
    settings = training.Training(epochs=3, threads=1, batch=64, learning_rate=0.05)
    training.fit(teacher, dataset, settings, preprocess=preprocess)
    student = models.load("logistic", classes=10, in_channels=preprocess.channels, input_size=shape)
    taught = settings.model_copy(update={"distil": 1.0})
    with pytest.raises(UsageError, match=r"distil is 1, and there is no teacher to compare with; give fit\(teacher=...\)"):
        training.fit(student, dataset, taught, preprocess=preprocess)
    training.fit(student, dataset, taught, preprocess=preprocess, teacher=teacher)
    answers = [training.score(module, dataset.test, preprocess).argmax(1) for module in (student, teacher)]
    assert (answers[0] == answers[1]).mean() > 0.85


def test_a_network_with_its_normalisations_again_is_the_same_until_it_is_trained() -> None:
    graph, x = redesign.apply(network(), [Edit("fold")]), RNG.standard_normal((64, 3, 16, 16)).astype(np.float32)
    dead = graph.weights["layer1.0.conv1.weight"].copy()
    dead[3] = 0  # a channel that is constant
    graph = with_weights(graph, {"layer1.0.conv1.weight": dead})
    module = NormalisedNetwork(graph, x)
    assert len(module.norms) == sum(node.op == "Conv" for node in graph) == 19
    with torch.no_grad():
        # float32 sums in another order, through 19 layers
        np.testing.assert_allclose(module.eval()(torch.from_numpy(x)).numpy(), run(graph, x), atol=1e-3)
        # a batch of the very images has the statistics that the network begins with
        np.testing.assert_allclose(module.train()(torch.from_numpy(x)).numpy(), run(graph, x), atol=1e-2)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01)
    for _ in range(3):
        module(torch.from_numpy(x)).square().mean().backward()
        optimizer.step()
    with torch.no_grad():
        trained = module.eval()(torch.from_numpy(x)).numpy()
    assert np.abs(trained - run(graph, x)).max() > 1e-2
    np.testing.assert_allclose(run(module.to_graph(), x), trained, atol=1e-3)
    with pytest.raises(DataError, match="statistics are taken from images, at least one; got none"):
        NormalisedNetwork(graph, x[:0])
