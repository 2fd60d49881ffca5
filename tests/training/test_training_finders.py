"""The finders of learning rate and batch: a loss whose brink is known, memory limits that bite, processes that die."""

from __future__ import annotations

import functools
import os

import numpy as np
import pytest
import torch

from convsmith import jobs, models, report, runs
from convsmith.data.preprocess import Preprocess
from convsmith.errors import ResourceError, UsageError
from convsmith.training import Training, find_batch, find_rate
from convsmith.training.batch_finder import SMALLEST, BatchTrial, _choose, _predict
from convsmith.training.rate_finder import judge, smooth

SGD = {"optimizer": "sgd", "momentum": 0.0, "nesterov": False, "weight_decay": 0.0, "precision": "float32", "threads": 1, "batch": 16}
SHAPE = Preprocess(8, 8, 1, "squash", mean=(0.3,), std=(0.25,))
BUILD = functools.partial(models.load, "smallnet", classes=4, in_channels=1, input_size=(8, 8))


def test_the_running_mean_is_that_of_its_definition() -> None:
    values = [3.0, 1.0, 2.0]
    weights = [[0.1], [0.09, 0.1], [0.081, 0.09, 0.1]]
    expected = [np.dot(w, values[: len(w)]) / sum(w) for w in weights]
    assert smooth(values) == pytest.approx(expected)


def test_the_brink_of_a_quadratic_is_found() -> None:
    """Gradient descent on w^2 / 2, noise in its gradients, diverges from a rate of 2 on: lowest before, it leaves after."""
    rates, noise = np.geomspace(1e-4, 100, 100), np.random.default_rng(0).normal(0, 0.2, 100)
    w, seen = 1.0, []
    for rate, error in zip(rates, noise, strict=True):
        seen.append(w * w / 2 + 1.0)
        w -= rate * (w + error)
        if seen[-1] > 8:
            break
    found = judge(rates[: len(seen)].tolist(), seen, high_reached=False)
    assert 0.5 < found.lowest < 6 and found.left is not None and 2 < found.left < 20
    assert 0.01 < found.steepest < 2 and found.chosen == pytest.approx(max(found.lowest / 10, found.steepest), rel=0.05)
    assert f"leaves at {found.left:.2g}" in found.reason


def test_the_network_is_left_as_it_was_and_the_test_repeats(make_net, dataset, preprocess) -> None:
    net = make_net(norm=True)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.get_rng_state()
    first, second = (find_rate(net, dataset, Training(**SGD, deterministic=True), preprocess, updates=40, high=100) for _ in range(2))
    assert first == second and torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert 1e-4 < first.chosen < first.lowest and len(first.rates) == len(first.losses) <= 40
    # the rate found teaches, the one at which the loss left does not
    assert first.losses[0] == pytest.approx(np.log(4), abs=0.6)
    with pytest.raises(UsageError, match=r"rates from 1 to 0\.1 do not rise"):
        find_rate(net, dataset, Training(**SGD), preprocess, low=1, high=0.1)
    with pytest.raises(UsageError, match="the loss left after 3 updates, at a rate of 3; begin lower"):
        judge([1, 2, 3], [1.0, 2.0, 3.0], high_reached=False)


def test_batches_are_tried_in_a_process_and_the_limit_keeps_a_margin() -> None:
    found = find_batch(BUILD, SHAPE, 4, 700, Training(**SGD))
    assert [trial.batch for trial in found.trials] == [8, 16, 32, 64] and all(trial.fits for trial in found.trials)
    peaks = [trial.peak_bytes for trial in found.trials]
    assert peaks == sorted(peaks) and peaks[0] > 50e6  # a process with torch
    assert found.largest == 64 and found.chosen in (8, 16, 32, 64)
    best = max(trial.images_per_s for trial in found.trials)
    assert all(trial.images_per_s < 0.9 * best for trial in found.trials if trial.batch < found.chosen)
    with pytest.raises(ResourceError, match=r"not even a batch of 8 fits into 0\.0 GB; use smaller images"):
        find_batch(BUILD, SHAPE, 4, 1300, Training(**SGD), limit_bytes=10_000_000)


def test_a_process_that_dies_counts_as_no_room() -> None:
    with pytest.raises(ResourceError, match="not even a batch of 8 fits"):
        find_batch(os.abort, SHAPE, 4, 1300, Training(**SGD))


def test_what_two_sizes_predict_not_to_fit_is_not_tried() -> None:
    before = [BatchTrial(8, 100, None, 10.0, True), BatchTrial(16, 140, None, 19.0, True)]
    assert _predict(32, before) == 220 and _predict(16, before[:1]) is None
    trials = [*before, BatchTrial(32, 220, 220, 20.0, True), BatchTrial(64, None, 380, None, False)]
    found = _choose(trials, 300)
    # 19 images/s are nine tenths of 20
    assert (found.chosen, found.largest) == (16, 32) and "32 is the largest that fits" in found.reason
    assert SMALLEST == 8


@pytest.mark.slow
def test_train_finds_both_and_the_page_shows_how(tmp_path) -> None:
    settings = {"data": "digits", "batch": "find", "learning_rate": "find", "epochs": 1, "threads": 1}
    outcome = jobs.perform("train", settings, out=tmp_path / "run")
    run = runs.open(outcome.folder)
    found, used = run.read_json("finders.json"), run.read_json("training.json")
    assert used["batch"] == found["batch"]["chosen"] and used["learning_rate"] == found["learning_rate"]["chosen"]
    reasons = {row["choice"]: row["reason"] for row in run.read_json("decisions.json")}
    assert "at least nine tenths of the fastest" in reasons[f"batch {used['batch']:g}"]
    page = report.render(run.folder)
    assert "Learning rate, found by trying" in page and "Batch, found by trying" in page and "Learning rate range test" in page
