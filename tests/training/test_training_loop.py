"""The whole call: learning, stopping, events, errors, and what it leaves behind."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from convsmith.data.dataset import Dataset
from convsmith.errors import DataError, ResourceError, UsageError
from convsmith.training import Augment, Schedule, Training, fit, quote, score
from convsmith.training import checkpoints as files

FAST = {"precision": "float32", "channels_last": False, "validate_every": 1}


class Ears:
    """Remember all events and progress."""

    def __init__(self, folder=None) -> None:
        self.events: list[tuple[str, dict]] = []
        self.shown: list[tuple[str, float, float]] = []
        if folder:
            self.folder = folder

    def event(self, kind: str, **fields) -> None:
        self.events.append((kind, fields))

    def progress(self, stage: str, done: float, total: float, **fields) -> None:
        self.shown.append((stage, done, total))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"optimizer": "adamw", "learning_rate": 0.02, "ema": 0.9, "label_smoothing": 0.1},
        {"loss": "binary_cross_entropy", "learning_rate": 0.3},
        {"loss": "squared_hinge", "learning_rate": 0.3, "class_weights": "balanced"},
        {"batch": "full", "epochs": 60, "learning_rate": 0.3},
        {"batch": 1, "epochs": 3, "learning_rate": 0.003},
        {"precision": "bfloat16", "channels_last": True},
        {"resident": False},
    ],
)
def test_every_mode_learns_the_bars(make_net, dataset, preprocess, fields) -> None:
    done = fit(make_net(), dataset, Training(**{"epochs": 15, "batch": 16, "learning_rate": 0.1, **FAST, **fields}), preprocess=preprocess)
    logits = score(done.module, dataset.test, preprocess)
    assert logits.dtype == np.float32 and logits.shape == (40, 4)
    # chance is 0.25; every mode was seen to reach 1.0
    assert (logits.argmax(1) == dataset.test.labels).mean() >= 0.95
    assert done.best_accuracy >= 0.95 and done.stopped_by == "epochs"


def test_a_norm_network_learns_thirty_images_by_heart(make_net, make_split, dataset, preprocess) -> None:
    few = make_split(30, seed=5)
    few.labels = np.random.default_rng(0).integers(0, 4, 30)
    hard = replace(dataset, splits={"train": few, "val": few})
    done = fit(make_net(norm=True), hard, Training(epochs=150, batch=30, learning_rate=0.2, **FAST), preprocess=preprocess)
    assert done.best_accuracy == 1.0


def test_what_comes_back_is_the_best_validation(make_net, dataset, preprocess) -> None:
    ears = Ears()
    done = fit(make_net(), dataset, Training(epochs=6, batch=16, **FAST), preprocess=preprocess, record=ears)
    accuracies = [page["val_accuracy"] for page in done.history]
    assert done.best_accuracy == max(accuracies)
    assert done.best_epoch == max(e for e, a in enumerate(accuracies, 1) if a == max(accuracies))
    logits = score(done.module, dataset.val, preprocess)
    assert (logits.argmax(1) == dataset.val.labels).mean() == pytest.approx(done.best_accuracy)
    assert not done.module.training
    assert [kind for kind, _ in ears.events] == ["plan"] + ["feed", "epoch"] * 6 + ["trained"]
    assert [page for kind, page in ears.events if kind == "epoch"] == list(done.history)
    assert ("train", 42, 42) in ears.shown and ("load", 101, 101) in ears.shown
    assert set(done.history[0]) == {"epoch", "step", "loss", "accuracy", "lr", "val_loss", "val_accuracy", "seconds"}


def test_training_loss_of_the_first_epoch_at_rate_zero_is_the_loss_of_the_start(make_net, dataset, preprocess) -> None:
    net = make_net()
    with torch.no_grad():
        x = torch.from_numpy((dataset.train.x_nhwc / 255 - 0.3) / 0.25).float().permute(0, 3, 1, 2)
        expected = nn.functional.cross_entropy(net(x), torch.from_numpy(dataset.train.labels)).item()
    done = fit(net, dataset, Training(epochs=1, batch=16, learning_rate=1e-12, **FAST), preprocess=preprocess)
    assert done.history[0]["loss"] == pytest.approx(expected, rel=1e-5)


def test_the_test_split_is_never_read(make_net, dataset, preprocess) -> None:
    class Forbidden:
        labels = np.zeros(3, np.int64)

        def __len__(self) -> int:
            return 3

        def image(self, index: int) -> np.ndarray:
            raise AssertionError("the test split was read")

    guarded = replace(dataset, splits={**dataset.splits, "test": Forbidden()})
    assert fit(make_net(), guarded, Training(epochs=1, **FAST), preprocess=preprocess).steps_done == 1


def test_without_validation_the_last_weights_are_kept(make_net, dataset, preprocess) -> None:
    alone = replace(dataset, splits={"train": dataset.train})
    done = fit(make_net(), alone, Training(epochs=3, batch=16, **FAST), preprocess=preprocess)
    assert "val_accuracy" not in done.history[-1]
    assert done.best_accuracy == max(page["accuracy"] for page in done.history)


def test_patience_stops_early(make_net, dataset, preprocess) -> None:
    config = Training(epochs=50, batch=16, learning_rate=1e-12, patience=3, **FAST)
    done = fit(make_net(), dataset, config, preprocess=preprocess)
    assert done.stopped_by == "patience" and done.epochs_done == 4


def test_same_seed_same_weights_other_seed_others(make_net, dataset, preprocess) -> None:
    config = Training(epochs=2, batch=16, deterministic=True, augment=Augment(shift=0.1))
    runs = [
        fit(make_net(dropout=0.3), dataset, config.model_copy(update={"seed": seed}), preprocess=preprocess).module.state_dict()
        for seed in (1, 1, 2)
    ]
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])
    assert not torch.equal(runs[0]["6.weight"], runs[2]["6.weight"])


def test_surroundings_are_left_as_they_were(make_net, dataset, preprocess) -> None:
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    threads, handler = torch.get_num_threads(), signal.getsignal(signal.SIGINT)
    fit(make_net(seed=7), dataset, Training(epochs=1, deterministic=True, threads=threads + 1), preprocess=preprocess)
    torch.manual_seed(7)
    assert torch.equal(torch.rand(1), expected)
    assert torch.get_num_threads() == threads and signal.getsignal(signal.SIGINT) is handler
    assert not torch.are_deterministic_algorithms_enabled()


def test_generator_is_given_back(make_net, dataset, preprocess) -> None:
    net = make_net()
    before = torch.get_rng_state()
    fit(net, dataset, Training(epochs=1), preprocess=preprocess)
    quote(net, dataset, Training(epochs=1), preprocess)
    assert torch.equal(torch.get_rng_state(), before)


def test_ctrl_c_saves_and_says_how_to_go_on(make_net, dataset, preprocess, tmp_path) -> None:
    config = Training(epochs=5, batch=16, deterministic=True, checkpoint_s=1000)
    whole = fit(make_net(dropout=0.2), dataset, config, preprocess=preprocess)

    def press(stage: str, done: float, total: float, **fields) -> None:
        if stage == "train" and done == 12:
            os.kill(os.getpid(), signal.SIGINT)

    first = fit(make_net(dropout=0.2), dataset, config, preprocess=preprocess, record=Ears(tmp_path), progress=press)
    assert first.stopped_by == "interrupt" and first.steps_done == 12
    assert first.advice == (
        f"interrupted at update 12 of 35; to go on, call fit again with resume=True ({tmp_path / 'checkpoints' / 'last.pt'})"
    )
    ears = Ears(tmp_path)
    second = fit(make_net(seed=99, dropout=0.2), dataset, config, preprocess=preprocess, record=ears, resume=True)
    assert ears.events[0] == ("resume", {"step": 12, "epoch": 12 / 7})
    assert all(torch.equal(a, b) for a, b in zip(whole.module.state_dict().values(), second.module.state_dict().values(), strict=True))
    plain = [{k: v for k, v in page.items() if k != "seconds"} for page in second.history]
    assert plain == [{k: v for k, v in page.items() if k != "seconds"} for page in whole.history]


def test_resume_with_other_settings_is_refused(make_net, make_split, dataset, preprocess, tmp_path) -> None:
    config = Training(epochs=1, batch=16, **FAST)
    fit(make_net(), dataset, config, preprocess=preprocess, checkpoints_in=tmp_path)
    with pytest.raises(UsageError, match="the run to resume has batch=16, now it is 8; resume with the same, or start a new run"):
        again = config.model_copy(update={"batch": 8})
        fit(make_net(), dataset, again, preprocess=preprocess, checkpoints_in=tmp_path, resume=True)
    with pytest.raises(UsageError, match="was trained on other images or another split"):
        other = replace(dataset, splits={**dataset.splits, "train": make_split(101, seed=9)})
        fit(make_net(), other, config, preprocess=preprocess, checkpoints_in=tmp_path, resume=True)
    done = fit(make_net(), dataset, config, preprocess=preprocess, checkpoints_in=tmp_path, resume=True)
    assert done.steps_done == 7


def test_resume_without_a_checkpoint_begins(make_net, dataset, preprocess, tmp_path) -> None:
    done = fit(make_net(), dataset, Training(epochs=1, **FAST), preprocess=preprocess, checkpoints_in=tmp_path, resume=True)
    assert done.steps_done == 1


def test_a_loss_that_is_no_number_names_the_fix(make_net, dataset, preprocess) -> None:
    config = Training(epochs=9, batch=16, learning_rate=1e30, schedule=Schedule(kind="constant"), **FAST)
    with pytest.raises(UsageError) as caught:
        fit(make_net(), dataset, config, preprocess=preprocess)
    assert "the loss is no longer a number at update" in str(caught.value)
    assert "a learning rate ten times smaller (learning_rate=1e+29), or gradient clipping (clip=1)" in str(caught.value)


def test_networks_that_do_not_fit_are_refused(make_net, make_split, dataset, preprocess) -> None:
    with pytest.raises(UsageError, match="the network gives 7 scores an image for 4 classes; build it with classes=4"):
        fit(make_net(classes=7), dataset, preprocess=preprocess)
    with pytest.raises(UsageError, match="the network cannot read 1 channels of 8x8 pixels"):
        fit(nn.Sequential(nn.Flatten(), nn.Linear(99, 4)), dataset, preprocess=preprocess)
    with pytest.raises(UsageError, match=r"online training \(batch=1\) needs a network without batch norm"):
        fit(make_net(norm=True), dataset, Training(batch=1), preprocess=preprocess)
    with pytest.raises(DataError, match="the training split has no images"):
        fit(make_net(), replace(dataset, splits={"train": make_split(0)}), preprocess=preprocess)


def test_time_budget_completes_the_schedule(make_net, dataset, preprocess) -> None:
    ears = Ears()
    config = Training(epochs=1e6, time_s=2.0, batch=16, **FAST)
    done = fit(make_net(), dataset, config, preprocess=preprocess, record=ears)
    assert done.stopped_by == "time"
    assert done.plan.at(done.steps_done) == pytest.approx(1)
    # the rate falls in a straight line to 0: the last update has what one step before the end has
    assert done.history[-1]["lr"] < 0.02 * config.learning_rate
    assert done.steps_done == done.plan.steps and "val_accuracy" in done.history[-1]


def test_quote_agrees_with_the_bookkeeping(make_net, dataset, preprocess, tmp_path) -> None:
    config = Training(epochs=3, batch=16, optimizer="adam", ema=0.9, **FAST)
    cost = quote(make_net(), dataset, config, preprocess)
    done = fit(make_net(), dataset, config, preprocess=preprocess, checkpoints_in=tmp_path)
    assert cost.steps == done.steps_done == 21
    assert cost.seconds > 0 and cost.memory_bytes > 0
    # the quote allows 32 KiB a file for torch's own bookkeeping, most of a file of such a tiny network
    assert 0 < done.disk_bytes <= cost.disk_bytes <= done.disk_bytes + 65536
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == done.disk_bytes


def test_scores_of_no_images(make_net, make_split, preprocess) -> None:
    assert score(make_net(), make_split(0), preprocess).shape[0] == 0


def test_scoring_leaves_the_mode_of_every_part(make_net, dataset, preprocess) -> None:
    net = make_net(norm=True, dropout=0.5).train()
    net[1].eval()
    first = score(net, dataset.val, preprocess, batch=7)
    assert net.training and not net[1].training and net[3].training
    # one sum over 64 products, in another order for another batch size
    np.testing.assert_allclose(first, score(net, dataset.val, preprocess, batch=40), rtol=1e-5, atol=1e-5)


def test_checkpoints_are_whole_or_refused(tmp_path) -> None:
    path = tmp_path / "a" / "last.pt"
    size = files.save({"x": torch.ones(3)}, path)
    assert path.stat().st_size == size and [p.name for p in path.parent.iterdir()] == ["last.pt"]
    assert torch.equal(files.load(path)["x"], torch.ones(3))
    (tmp_path / "bad.pt").write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"bad\.pt is not a checkpoint of Convsmith"):
        files.load(tmp_path / "bad.pt")
    torch.save({"version": 99}, tmp_path / "new.pt")
    with pytest.raises(DataError, match="is a checkpoint of version 99; this Convsmith reads version 1"):
        files.load(tmp_path / "new.pt")
    with pytest.raises(DataError, match="there is no checkpoint"):
        files.load(tmp_path / "none.pt")


def test_a_full_disk_keeps_the_old_checkpoint(tmp_path, monkeypatch) -> None:
    path = tmp_path / "last.pt"
    files.save({"x": 1}, path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(ResourceError, match=r"cannot write the checkpoint .*No space left on device; free some space"):
        files.save({"x": 2}, path)
    assert files.load(path)["x"] == 1 and [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_dataset_is_what_the_protocol_says(dataset) -> None:
    assert isinstance(dataset, Dataset) and dataset.train.image(0).shape == (8, 8, 1)
