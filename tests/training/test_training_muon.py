"""Muon against singular values and against its definition in NumPy, its Adam against torch's, and the recipe that uses both."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from convsmith import models
from convsmith.training import Training, choose, fit
from convsmith.training.beginning import begin
from convsmith.training.muon import Muon, muon_groups, orthogonalised


@pytest.mark.parametrize("shape", [(8, 27), (27, 8), (16, 16)])
def test_updates_keep_singular_vectors_and_level_their_values(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    left, _ = torch.linalg.qr(torch.randn(shape[0], min(shape)))
    right, _ = torch.linalg.qr(torch.randn(shape[1], min(shape)))
    values = torch.linspace(0.2, 1.0, min(shape))
    matrix = left @ torch.diag(values) @ right.T
    found = orthogonalised(matrix, steps=5)
    inner = left.T @ found @ right
    torch.testing.assert_close(inner, torch.diag(inner.diagonal()), atol=1e-4, rtol=0)
    # the authors state 0.7 to 1.2 after five steps
    assert 0.65 < float(inner.diagonal().min()) and float(inner.diagonal().max()) < 1.25
    torch.testing.assert_close(left @ inner @ right.T, found, atol=1e-4, rtol=0)


def test_two_steps_are_those_of_the_definition() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2))
    filters, start = network[0].weight, network[0].weight.detach().double().numpy().copy()
    optimizer = Muon(muon_groups(network, 0.0), lr=0.1, momentum=0.6, betas=(0.9, 0.99))
    gradients = [torch.randn_like(filters) for _ in range(2)]
    mean, w = np.zeros((4, 27)), start.reshape(4, 27)
    for gradient in gradients:
        filters.grad = gradient.clone()
        optimizer.step()
        g = gradient.double().numpy().reshape(4, 27)
        mean = 0.6 * mean + g
        x = g + 0.6 * mean
        x = x / (np.linalg.norm(x) + 1e-7)
        for _ in range(3):
            gram = x @ x.T
            x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
        w = w * 2 / np.linalg.norm(w) - 0.1 * x
    np.testing.assert_allclose(filters.detach().numpy().reshape(4, 27), w, rtol=1e-4, atol=1e-5)


def test_all_else_learns_by_torchs_adamw_at_a_twentieth_of_the_rate() -> None:
    def build() -> nn.Linear:
        torch.manual_seed(1)
        return nn.Linear(5, 3)

    ours, theirs = build(), build()
    groups = muon_groups(ours, 0.1)
    assert [group["factor"] for group in groups] == [0.05, 0.05] and [group["weight_decay"] for group in groups] == [0.1, 0.0]
    optimizer = Muon(groups, lr=0.01, momentum=0.6, betas=(0.9, 0.95))
    peer = torch.optim.AdamW(
        [{"params": [theirs.weight], "weight_decay": 0.1}, {"params": [theirs.bias], "weight_decay": 0.0}], lr=0.01, betas=(0.9, 0.95)
    )
    x = torch.randn(7, 5)
    for _ in range(4):
        for network, step in ((ours, optimizer), (theirs, peer)):
            step.zero_grad()
            network(x).square().sum().backward()
            step.step()
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.bias, theirs.bias, rtol=1e-5, atol=1e-6)


def test_the_recipe_trains_whitens_and_resumes(make_split, stopped_and_resumed, tmp_path) -> None:
    from convsmith.data.dataset import Dataset
    from convsmith.data.preprocess import Preprocess

    splits = {name: make_split(n, side=16, seed=seed) for name, n, seed in (("train", 240, 0), ("val", 60, 1))}
    colour = {name: type(split)(np.repeat(split.x_nhwc, 3, 3), split.labels) for name, split in splits.items()}
    dataset = Dataset("bars", "made", ("a", "b", "c", "d"), 3, colour)
    preprocess = Preprocess(16, 16, 3, "squash")
    config, reasons = choose(dataset, preprocess, model="speednet")
    assert config.optimizer == "muon" and config.label_smoothing == 0.2 and config.ema > 0 and "Muon" in reasons[-1]
    config = Training.model_validate(
        {**config.model_dump(), "epochs": 4, "batch": 32, "deterministic": True, "threads": 1, "checkpoint_s": 0, "augment": {}}
    )

    def build() -> nn.Module:
        torch.manual_seed(0)
        network = models.load("speednet", classes=4, input_size=(16, 16))
        assert begin(network, dataset, preprocess)
        return network

    whole = fit(build(), dataset, config, preprocess=preprocess)
    assert whole.best_accuracy > 0.9
    assert torch.equal(whole.module.whitening.weight, build().whitening.weight)
    again = stopped_and_resumed(build, config, tmp_path, 13, images=dataset, read_by=preprocess)
    assert all(torch.equal(value, again.module.state_dict()[name]) for name, value in whole.module.state_dict().items())
    assert not begin(nn.Linear(2, 2), dataset, preprocess)


def test_muon_refuses_what_it_is_not_for() -> None:
    with pytest.raises(ValueError, match="muon is for networks trained from scratch, without a plan or rate_scale; take sgd or adamw"):
        Training(optimizer="muon", transfer={"strategy": "full"})
