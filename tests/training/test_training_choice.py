"""What is chosen from the data, and the plan for a time budget."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from convsmith.data.dataset import Dataset
from convsmith.data.preprocess import Preprocess
from convsmith.training import Training, choose
from convsmith.training.mirroring import compare
from convsmith.training.planning import Pace, Plan, fastest, preferred
from convsmith.training.updates import Arithmetic

PLAN = Plan(Arithmetic(), steps_per_epoch=10, steps=100, validate_every=10)


def shapes(n: int, mirrored: bool, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Corners: class 0 has its block at the left, class 1 at the right; with ``mirrored`` the class is the block's height instead."""
    rng = np.random.default_rng(seed)
    labels, x = rng.integers(0, 2, n), rng.random((n, 8, 8, 1), dtype=np.float32) * 0.3
    sides = rng.integers(0, 2, n)
    for image, label, side in zip(x, labels, sides, strict=True):
        row, column = (label, side) if mirrored else (0, label)
        image[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 1
    return x, labels


def test_classes_that_differ_by_side_are_not_mirrored() -> None:
    answer = compare(*shapes(200, mirrored=False))
    assert answer.broken > 50 and not answer.allowed


def test_classes_on_both_sides_are_mirrored() -> None:
    answer = compare(*shapes(200, mirrored=True))
    assert 0.3 < answer.share < 0.7 and answer.allowed
    assert "of 200 training images the most similar other image is a mirrored one" in str(answer)


def test_images_that_are_never_seen_mirrored_are_not_mirrored() -> None:
    x, labels = shapes(200, mirrored=True)
    x[:, 0, 0] += 5.0
    answer = compare(x, labels)
    assert answer.share < 0.1 and not answer.allowed


def test_spectrograms_are_not_mirrored() -> None:
    """Tones that begin at once and die away, in eight places of frequency: backwards they would swell."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 8, 300)
    x = 0.05 * rng.random((300, 16, 16, 1), dtype=np.float32)
    for image, label, onset, decay in zip(x, labels, rng.integers(0, 8, 300), rng.uniform(0.15, 0.5, 300), strict=True):
        time = np.arange(16) - onset
        image[2 * label : 2 * label + 2, :, 0] += np.where(time < 0, 0, np.exp(-decay * time))
    answer = compare(x, labels)
    assert not answer.allowed, str(answer)


def test_one_image_gives_no_evidence() -> None:
    assert not compare(np.zeros((1, 4, 4, 1), np.float32), np.zeros(1, np.int64)).allowed


def test_choice_is_explained(dataset: Dataset, preprocess: Preprocess) -> None:
    config, reasons = choose(dataset, preprocess, time_s=30)
    assert isinstance(config, Training) and config.time_s == 30
    assert any("mirrored" in reason for reason in reasons)
    assert any("30 s allowed" in reason for reason in reasons)


def test_rare_classes_are_weighed(dataset: Dataset, preprocess: Preprocess, make_split) -> None:
    train = make_split(300)
    train.labels[:] = np.where(np.arange(300) < 290, 0, train.labels)
    train.labels[-3:] = (1, 2, 3)
    config, reasons = choose(replace(dataset, splits={**dataset.splits, "train": train}), preprocess)
    assert config.class_weights == "balanced"
    assert any("every class counts the same" in reason for reason in reasons)


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "flip"), [("mnist", False), ("fashion-mnist", True), ("flowers5", True), ("trashnet", True)])
def test_real_images_are_mirrored_where_it_makes_sense(real_data, name: str, flip: bool) -> None:
    from convsmith import data

    dataset = data.open(real_data / "data" / name)
    config, _ = choose(dataset, data.choose_preprocess(dataset)[0])
    assert config.augment.flip is flip


def test_digits_are_not_mirrored() -> None:
    from convsmith import data

    dataset = data.open("digits")
    assert not choose(dataset, data.choose_preprocess(dataset)[0])[0].augment.flip


def test_progress_runs_from_zero_to_one_through_every_change() -> None:
    plan = PLAN.ending_at(60, 20)
    assert (PLAN.at(20), plan.at(20), plan.at(40), plan.at(60)) == pytest.approx((0.2, 0.2, 0.6, 1.0))
    assert plan.ending_at(10, 50).steps == 51
    assert Plan.from_dict(plan.to_dict()) == plan


RARE = replace(PLAN, validate_every=1000)


def test_pace_moves_the_end_only_when_the_budget_is_missed() -> None:
    def end_after(step_s: float, left_s: float, step: int = 20, time_s: float = 0.0) -> int | None:
        pace = Pace(time_s)
        assert pace.end(RARE, step - 10, 1e9, 10, now=0.0) is None
        return pace.end(RARE, step, left_s, 10, now=10 * step_s)

    # 80 updates of 1 s remain of 100; 2 % of them may be late
    assert end_after(1.0, 80.5) == end_after(1.0, 79.5) == 100
    assert end_after(1.0, 78.1) == 20 + 78
    assert end_after(1.0, 40.1) == 20 + 40
    assert end_after(1.0, -5) == 21
    # 3 % of the whole budget stay free, however little is left of it
    assert end_after(1.0, 40.1, time_s=100.0) == 20 + 37
    assert end_after(1.0, 5.1, step=90, time_s=100.0) == 90 + 2
    # faster than planned: never beyond the epochs asked for
    assert end_after(0.1, 80) == 100


def test_pace_lengthens_a_shortened_run_until_late() -> None:
    short, pace = RARE.ending_at(50, 0), Pace()
    pace.end(short, 5, 1e9, 10, now=0.0)
    assert pace.end(short, 15, 85.1, 10, now=10.0) == 100


def test_one_slow_look_counts_half() -> None:
    pace = Pace()
    pace.end(RARE, 10, 1e9, 10, now=0.0)
    assert pace.end(RARE, 20, 80.1, 10, now=10.0) == 100
    # 3 s an update at this look, 1 s before: 2 s are reckoned with
    assert pace.end(RARE, 30, 100.1, 10, now=40.0) == 30 + 50


def test_pace_leaves_time_for_the_validations() -> None:
    pace = Pace(val_steps=8)
    pace.end(RARE, 10, 1e9, 10, now=0.0)
    assert pace.end(RARE, 20, 40.1, 10, now=10.0) == 20 + 40 - 8
    # one took 2 s: no part of the pace, and what later ones take; every tenth update has one, the last included
    pace = Pace(val_steps=8)
    pace.end(PLAN, 10, 1e9, 10, now=0.0)
    pace.validated(2.0)
    assert pace.end(PLAN, 20, 40.1, 10, now=12.0) == 20 + 40 - 2 - 3 * 2


def test_candidates_are_measured_in_turn_and_slow_ones_dropped() -> None:
    fast, even, slow = Arithmetic("float32", True), Arithmetic("float32", False), Arithmetic("bfloat16", False)
    calls: list[Arithmetic] = []
    # the first measurement pays for preparations, a disturbance hits one round
    times = {fast: [9, 2, 1, 1, 1], even: [9, 1.5, 1.2, 9, 1.3], slow: [9, 5, 5, 5, 5]}

    def measure(name: Arithmetic) -> float:
        calls.append(name)
        return float(times[name][calls.count(name) - 1])

    assert fastest((fast, even, slow), measure, budget_s=1e9) == {fast: 1.0, even: 1.2, slow: 5.0}
    assert calls == [fast, even, slow] * 2 + [fast, even] * 3


def test_bfloat16_must_be_a_tenth_faster() -> None:
    plain, brief = Arithmetic("float32"), Arithmetic("bfloat16")
    assert preferred({plain: 1.0, brief: 0.95}) == plain
    assert preferred({plain: 1.0, brief: 0.85}) == brief
