"""Updates are torch's own; decay groups, running mean, accumulation and clipping against closed forms."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from convsmith.errors import UsageError
from convsmith.training import Training
from convsmith.training.feed import Feed
from convsmith.training.optimizers import Ema, groups
from convsmith.training.processes import Team
from convsmith.training.updates import Updater

PLAIN = {"precision": "float32", "channels_last": False}


def run_updates(net, dataset, preprocess, config: Training, steps: int = 3) -> Updater:
    feed = Feed(dataset.train, preprocess, config, Team())
    updater = Updater(net, config, preprocess, None)
    for step in range(steps):
        updater.update(feed.read(step), len(feed.parts(step)), feed.size(step), step, config.learning_rate)
    return updater


@pytest.mark.parametrize(
    ("fields", "reference"),
    [
        ({"optimizer": "sgd", "momentum": 0.0, "nesterov": False}, lambda p: torch.optim.SGD(p, lr=0.02, weight_decay=0)),
        ({"optimizer": "sgd", "nesterov": False}, lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9)),
        ({"optimizer": "sgd"}, lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, nesterov=True)),
        ({"optimizer": "adam", "betas": (0.8, 0.99)}, lambda p: torch.optim.Adam(p, lr=0.02, betas=(0.8, 0.99))),
        ({"optimizer": "adamw"}, lambda p: torch.optim.AdamW(p, lr=0.02, weight_decay=0)),
    ],
)
def test_three_updates_are_torchs(make_net, dataset, preprocess, fields, reference) -> None:
    net = make_net()
    other = copy.deepcopy(net)
    config = Training(batch=32, learning_rate=0.02, weight_decay=0, **PLAIN, **fields)
    run_updates(net, dataset, preprocess, config)
    feed, rule = Feed(dataset.train, preprocess, config, Team()), reference(other.parameters())
    for step in range(3):
        (part,) = feed.read(step)
        x = (part.x_nhwc.float().permute(0, 3, 1, 2) / 255 - 0.3) / 0.25
        rule.zero_grad()
        nn.functional.cross_entropy(other(x), part.labels).backward()
        rule.step()
    for a, b in zip(net.parameters(), other.parameters(), strict=True):
        # Adam divides by the root of tiny second moments, which enlarges the last bits of x
        torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-5)


def test_biases_and_norms_are_spared(make_net) -> None:
    net = make_net(norm=True)
    decayed, spared = groups(net, 0.1)
    assert [tuple(p.shape) for p in decayed["params"]] == [(4, 1, 3, 3), (4, 64)] and decayed["weight_decay"] == 0.1
    assert [tuple(p.shape) for p in spared["params"]] == [(4,), (4,), (4,), (4,)] and spared["weight_decay"] == 0


def test_a_frozen_network_is_refused(make_net) -> None:
    with pytest.raises(UsageError, match="no parameter to train"):
        groups(make_net().requires_grad_(False), 0.1)


def test_ema_is_the_weighted_sum_of_all_weights() -> None:
    net = nn.Linear(1, 1, bias=False)
    values = [1.0, 2.0, -3.0, 5.0]
    with torch.no_grad():
        net.weight.fill_(values[0])
        ema = Ema(net, 0.2)
        expected = values[0]
        for step, value in enumerate(values[1:], 1):
            net.weight.fill_(value)
            ema.update(net, step)
            decay = min(0.2, (1 + step) / (10 + step))
            expected = decay * expected + (1 - decay) * value
    assert ema.weights["weight"].item() == pytest.approx(expected, rel=1e-6)


def test_ema_copies_counters(make_net) -> None:
    net = make_net(norm=True)
    ema = Ema(net, 0.9)
    net(torch.zeros(2, 1, 8, 8))
    ema.update(net, 1)
    assert ema.weights["1.num_batches_tracked"].item() == 1


def test_accumulation_is_the_big_batch(make_net, dataset, preprocess) -> None:
    nets = [make_net(), make_net()]
    for net, parts in zip(nets, (1, 5), strict=True):
        run_updates(net, dataset, preprocess, Training(batch=50, accumulate=parts, learning_rate=0.1, **PLAIN))
    for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        # the same sum in another order
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_clipping_bounds_the_step(make_net, dataset, preprocess) -> None:
    net = make_net()
    before = [p.detach().clone() for p in net.parameters()]
    config = Training(batch=50, clip=1e-3, learning_rate=1.0, weight_decay=0, momentum=0, nesterov=False, **PLAIN)
    run_updates(net, dataset, preprocess, config, steps=1)
    moved = torch.cat([(p - q).ravel() for p, q in zip(net.parameters(), before, strict=True)])
    assert moved.norm().item() == pytest.approx(1e-3, rel=1e-3)


def test_full_batch_is_the_gradient_of_all_images(make_net, make_split, dataset, preprocess) -> None:
    net = make_net()
    other = copy.deepcopy(net)
    config = Training(batch="full", learning_rate=0.5, weight_decay=0, momentum=0, nesterov=False, **PLAIN)
    feed = Feed(dataset.train, preprocess, config, Team())
    assert feed.steps_per_epoch == 1 and feed.size(0) == 101
    run_updates(net, dataset, preprocess, config, steps=1)
    x = torch.from_numpy((dataset.train.x_nhwc / 255 - 0.3) / 0.25).float().permute(0, 3, 1, 2)
    nn.functional.cross_entropy(other(x), torch.from_numpy(dataset.train.labels)).backward()
    for a, b in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b - 0.5 * b.grad, rtol=1e-5, atol=1e-6)


def test_a_large_full_batch_is_cut_into_parts(make_split, preprocess) -> None:
    feed = Feed(make_split(1100), preprocess, Training(batch="full"), Team())
    assert [stop - start for start, stop in feed.parts(0)] == [366, 367, 367]


@pytest.mark.parametrize(("n", "batch"), [(101, 32), (10, 4), (65, 64), (5, 100), (7, 1)])
def test_batches_of_an_epoch_are_even_and_complete(make_split, preprocess, n, batch) -> None:
    feed = Feed(make_split(n), preprocess, Training(batch=batch), Team())
    read = [np.concatenate([part.indices for part in feed.read(step)]) for step in range(feed.steps_per_epoch)]
    sizes = [len(indices) for indices in read]
    assert sorted(np.concatenate(read)) == list(range(n))
    assert max(sizes) <= batch and max(sizes) - min(sizes) <= 1
    assert sizes == [feed.size(step) for step in range(feed.steps_per_epoch)]


def test_images_from_workers_are_those_from_memory(make_split, preprocess) -> None:
    split = make_split(50)
    config = Training(batch=16, accumulate=3)
    memory, stream = (Feed(split, preprocess, config.model_copy(update={"resident": r}), Team()) for r in (True, False))
    next(stream.read(0))
    for step in [0, 1, 2, 3, 4, 9, 10, 2]:
        pairs = list(zip(memory.read(step), stream.read(step), strict=True))
        assert len(pairs) == 3
        for a, b in pairs:
            assert (
                torch.equal(a.x_nhwc, b.x_nhwc)
                and torch.equal(a.labels, b.labels)
                and (a.indices == b.indices).all()
                and a.epoch == b.epoch
            )
