"""Papers as data: what each arm's plan makes of each tensor, the arithmetic of the tables, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from torch.nn import functional as F

from convsmith import models, precision, training
from convsmith.errors import DataError, ResourceError, UsageError
from convsmith.training import Training, reproductions
from convsmith.training.reproductions import PAPERS, Arm, Claim, Experiment, Setup, images, page, picture, running, tables
from convsmith.training.reproductions.running import Row

EXPERIMENTS = [(paper, experiment) for paper in PAPERS.values() for experiment in paper.experiments]
IDS = [f"{paper.key}-{experiment.key}" for paper, experiment in EXPERIMENTS]
SMALL = {"hidden": (16, 16)}


def table_of(key: str, experiment: str, arm: str, **options: object) -> dict[tuple[str, str], tuple[str, str, str]]:
    """What each tensor becomes in the full setup: (layer, role) to format, rounding and moment."""
    chosen = PAPERS[key].chosen((experiment,))[0]
    plan = next(found.plan for found in chosen.setup("full").arms if found.name == arm)
    assert plan is not None
    channels, *size = models.ZOO[chosen.model].input
    network = models.load(chosen.model, in_channels=channels, input_size=tuple(size), **options)
    emulated = precision.emulate(network, plan, torch.zeros(2, channels, *size), loss=lambda y: F.cross_entropy(y, torch.tensor([0, 1])))
    return {
        (found.layer, found.role): (found.format_name, found.rule.rounding, found.rule.moment)
        for found in emulated.assignments
        if found.rule is not None
    }


@pytest.mark.parametrize(("paper", "experiment"), EXPERIMENTS, ids=IDS)
def test_every_arm_fits_its_network_and_every_claim_its_arms(paper, experiment) -> None:
    entry = models.ZOO[experiment.model]
    for size in ("quick", "full"):
        setup = experiment.setup(size)
        names = [arm.name for arm in setup.arms]
        assert names[0] == "float32" and setup.arms[0].plan is None and len(set(names)) == len(names)
        assert {running.slug(experiment, arm, 0) for arm in setup.arms}.__len__() == len(names)
        for claim in experiment.claims:
            assert {*claim.arms, *([claim.arm] if claim.arm else [])} <= set(names), claim.text
        assert bool(setup.shortened) == (size == "quick")
        with torch.device("meta"):
            models.load(experiment.model, in_channels=entry.input[0], input_size=entry.input[1:], **setup.options)
        for arm in setup.arms:
            config = running.settings(arm, setup, 1)
            assert config.seed == 1 and config.precision == "float32" and (config.plan is None) == (arm.plan is None)


def test_the_full_setups_are_the_published_ones() -> None:
    lenet = PAPERS["gupta2015"].chosen(("lenet",))[0].setup("full").training
    assert (lenet.batch, lenet.learning_rate, lenet.momentum, lenet.weight_decay, lenet.nesterov) == (100, 0.1, 0.9, 5e-4, False)
    assert (lenet.schedule.kind, lenet.schedule.step, lenet.schedule.gamma) == ("step", 1, 0.95)
    maxout = PAPERS["courbariaux2014"].experiments[0].setup("full").training
    assert (maxout.epochs, maxout.max_norm, maxout.momentum_start, maxout.momentum) == (800, 1.9365, 0.5, 0.7)
    connect = PAPERS["binaryconnect2015"].experiments[0].setup("full").training
    assert (connect.loss, connect.optimizer, connect.epochs, connect.batch) == ("squared_hinge", "adam", 250, 100)
    assert connect.learning_rate * connect.schedule.gamma**connect.epochs == pytest.approx(3e-6)
    net = PAPERS["binarynet2016"].experiments[0].setup("full")
    assert net.training.epochs == 1000 and net.options == {"dropout_in": 0.2, "dropout": 0.5}
    assert net.training.learning_rate * net.training.schedule.gamma**1000 == pytest.approx(3e-7)
    entry = models.ZOO["binarynet_mlp"].options
    assert entry["hidden"] == (4096, 4096, 4096)


def test_gupta_rounds_what_is_stored() -> None:
    found = table_of("gupta2015", "lenet", "stochastic FL 12")
    kept, passed = ("fixed<4,12>", "stochastic", "layer"), ("fixed<6,10>", "stochastic", "layer")
    for layer in ("features.0", "features.3", "hidden", "classifier"):
        assert all(found[layer, role] == kept for role in ("weight", "bias", "update", "momentum"))
        assert (layer, "accumulator") not in found and (layer, "weight_gradient") not in found
    assert {layer for (layer, role), how in found.items() if role == "activation" and how == passed} >= {
        "input", "features.1", "features.4", "relu", "classifier",
    }  # fmt: skip
    nearest = table_of("gupta2015", "mlp", "nearest FL 8", **SMALL)
    assert {how for how in nearest.values()} == {("fixed<8,8>", "nearest_even", "layer")}


def test_the_schedule_from_low_to_high_changes_parameters_alone() -> None:
    plan = next(arm.plan for arm in PAPERS["gupta2015"].chosen(("cifar",))[0].setup("full").arms if arm.name == "FL 12, then 16")
    assert plan is not None and str(plan.phases[0].start) == "epoch 100"
    formats = [{rule.role: rule.format_name for rule in plan.rules_of(phase)} for phase in (0, 1)]
    assert formats[0]["weight"] == formats[0]["update"] == "fixed<4,12>" and formats[1]["weight"] == formats[1]["update"] == "fixed<4,16>"
    assert formats[0]["activation"] == formats[1]["activation"] == "fixed<4,12>"


def test_dynamic_fixed_point_has_10_bits_passed_and_12_kept() -> None:
    plan = next(arm.plan for arm in PAPERS["courbariaux2014"].experiments[0].setup("full").arms if arm.name == "dynamic fixed 10/12")
    assert plan is not None and not plan.master
    bits = {rule.role: rule.format.bits for rule in plan.rules if rule.format is not None}
    passed, kept = ("activation", "error", "weight_gradient"), ("weight", "bias", "update", "momentum")
    assert bits == dict.fromkeys(passed, 10) | dict.fromkeys(kept, 12)
    shared = {(rule.scale, rule.interval, rule.max_overflow, rule.rounding, rule.format.symmetric) for rule in plan.rules if rule.format}
    assert shared == {("dynamic", 100, 1e-4, "nearest_away", True)}


def test_binary_plans_reach_weights_and_signs_alone() -> None:
    connect = table_of("binaryconnect2015", "mlp", "stochastic", **SMALL)
    layers = ("layers.hidden1.linear", "layers.hidden2.linear", "layers.output.linear")
    assert connect == {(layer, "weight"): ("binary", "stochastic", "layer") for layer in layers}
    net = table_of("binarynet2016", "mlp", "binary", **SMALL)
    signs = {(f"layers.hidden{place}.activation", "activation") for place in (1, 2)}
    assert net.keys() == {(layer, "weight") for layer in layers} | signs and {how[0] for how in net.values()} == {"binary"}


def test_truncation_is_everywhere_or_in_the_parameters() -> None:
    operations = table_of("rips2017", "logistic", "operations, 4 bits")
    assert {how[:2] for how in operations.values()} == {("e8m4", "toward_zero")}
    assert operations["classifier", "accumulator"][2] == operations["loss.cross_entropy", "accumulator"][2] == "operation"
    batches = table_of("rips2017", "logistic", "batches, 4 bits")
    assert batches.keys() == {("classifier", "weight"), ("classifier", "bias")}


def row(arm: str, seed: int, wrong: tuple[int, ...], tested: int = 100, **more: object) -> Row:
    values = {"val_error": 1.0, "epochs": 1.0, "updates": 10, "images": 50, "seconds": 2.0, "diverged": False, "source": "digits"}
    return Row(experiment="e", arm=arm, seed=seed, error=100 * len(wrong) / tested, tested=tested, wrong=wrong, **{**values, **more})


TINY = Experiment(
    "e",
    "A tiny experiment",
    "mnist",
    "mlp",
    {
        "quick": Setup(
            (Arm("float32", None, 1.0, "table 1"), Arm("low", None, 2.0), Arm("lower")), Training(), seeds=2, shortened="all of it"
        )
    },
    claims=(
        Claim("within", "low stays near", "low", 1.0),
        Claim("above", "lower fails", "lower", 10.0),
        Claim("at_most", "float32 errs little", "float32", 2.5),
        Claim("order", "as listed", arms=("float32", "low"), points=0.0),
    ),
    differs=("everything",),
)
ROWS = [row("float32", 0, (1, 2)), row("float32", 1, (2, 3, 4)), row("low", 0, (1, 2, 5)), row("low", 1, (2, 3, 6, 7))]


def test_paired_differences_are_those_of_the_images() -> None:
    wrong = {arm: np.zeros((2, 100)) for arm in ("float32", "low")}
    for found in ROWS:
        wrong[found.arm][found.seed, list(found.wrong)] = 1
    difference = (wrong["low"] - wrong["float32"]).mean(0)
    mean, half = 100 * difference.mean(), 100 * 1.96 * difference.std() / 10
    line = tables.lines(TINY, "quick", ROWS)[1]
    assert line.difference == pytest.approx(mean) and line.half_width == pytest.approx(half)
    assert (line.mean, line.spread) == (3.5, pytest.approx(np.std([3, 4], ddof=1)))
    alone = tables.lines(TINY, "quick", [row("low", 0, (1,))])[0]
    assert alone.difference is None and alone.spread is None, "no float32 row, one seed"
    assert tables.paired({0: ROWS[0]}, {1: ROWS[1]}) is None, "no common seed"


def test_verdicts() -> None:
    found = tables.verdicts(TINY, "quick", ROWS)
    assert [verdict.holds for verdict in found] == [True, None, True, True]
    assert found[0].found == "3.50 % against 2.50 %: +1.00 points" and found[1].found == "not run" and found[2].found == "2.50 %"
    failed = [*ROWS, row("lower", 0, tuple(range(12)), diverged=True)]
    assert tables.verdicts(TINY, "quick", failed)[1].holds is True, "10 points above float32 with the same seed, 9.5 above its mean"
    assert tables.verdicts(TINY, "quick", [*ROWS, row("lower", 0, tuple(range(11)))])[1].holds is False
    assert tables.verdict(Claim("order", "", arms=("low", "float32")), {"low": 3.5, "float32": 2.5}).holds is False


def test_the_page_and_the_picture_say_what_was_run(tmp_path) -> None:
    paper = replace(PAPERS["gupta2015"], experiments=(TINY,))
    text = page.markdown(paper, (TINY,), "quick", [*ROWS, row("lower", 0, tuple(range(90)), diverged=True)], "errors.svg")
    assert "| float32 | 1.00 | table 1 | 2.50 | 0.71 | 2 | - |" in text
    assert "| lower | - | - | 90.00 (1 diverged) | - | 1 |" in text
    assert "- **Holds**: lower fails (90.00 % against 2.00 %: +88.00 points)." in text
    assert (
        "50 training images of `digits`, 1 epochs, 100 test images; 5 runs" in text
        and "Shortened: all of it." in text
        and "- everything" in text
        and "![Test errors of all arms](errors.svg)" in text
    )
    assert "Of this setup not run here: lower, seed 1." in text
    assert "Not run." in page.markdown(paper, (TINY,), "quick", [])
    path = picture.plot((TINY,), "quick", ROWS, tmp_path / "errors.svg")
    assert "<svg" in path.read_text()


def test_a_row_survives_its_file() -> None:
    assert Row.from_dict(ROWS[0].to_dict() | {"of a later version": 1}) == ROWS[0]


def test_unknown_names_and_missing_images(tmp_path, monkeypatch) -> None:
    with pytest.raises(UsageError, match=r"there is no reproduction of 'gupta2016'; there are gupta2015, .*Did you mean 'gupta2015'?"):
        reproductions.find("gupta2016")
    with pytest.raises(UsageError, match=r"gupta2015 has no experiment 'lent'; there are mlp, lenet, cifar. Did you mean 'lenet'?"):
        reproductions.find("gupta2015").chosen(("lent",))
    monkeypatch.setenv("CONVSMITH_DATA", str(tmp_path))
    with pytest.raises(DataError) as found:
        images.locate("mnist", None)
    assert (
        f"there is no mnist in '{tmp_path / 'data' / 'mnist'}'; put the published files there, name the folder above it with --data"
        in str(found.value)
    )
    assert f"data.load_public('mnist', '{tmp_path / 'data'}')" in str(found.value)
    cifar = tmp_path / "cifar10"
    cifar.mkdir()
    (cifar / "copy.tar.gz").touch()
    assert images.locate("cifar10", tmp_path) == cifar / "copy.tar.gz"
    (cifar / "cifar-10-python.tar.gz").touch()
    assert images.locate("cifar10", tmp_path) == cifar / "cifar-10-python.tar.gz", "the published files win"


def test_too_little_memory_is_told_before_anything_is_trained(monkeypatch) -> None:
    experiment = PAPERS["binarynet2016"].chosen(("mlp",))[0]
    parameters = models.ZOO["binarynet_mlp"].parameters
    assert parameters is not None and running.needed_bytes(experiment, experiment.setup("full"), 60_000) > 16 * 4 * parameters
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 10**9})())
    with pytest.raises(ResourceError, match=r"mlp takes about .* GB of memory and 1.0 GB are free; close other programs, take --quick"):
        running.require_memory(experiment, experiment.setup("full"), 60_000)


def digits(images_: int = 200) -> tuple[Experiment, Setup, images.Images]:
    plan = PAPERS["gupta2015"].experiments[0].setup("quick").arms[1].plan
    recipe = Training(epochs=2, batch=50, learning_rate=0.2, momentum=0.0, nesterov=False, checkpoint_s=0)
    setup = Setup((Arm("float32"), Arm("stochastic", plan)), recipe, images=images_, options={"hidden": (16,)}, shortened="tiny")
    experiment = replace(TINY, setups={"quick": setup}, claims=())
    return experiment, setup, images.open_images(experiment, setup, Path("digits"), (1, 8, 8))


def run(experiment, setup, opened, arm, folder, show=lambda *a, **k: None) -> Row:
    return running.run_arm(experiment, arm, setup, 0, opened, folder=folder, show=show, threads=1, device="cpu")


def test_an_interrupted_arm_goes_on_to_the_same_row(tmp_path) -> None:
    experiment, setup, opened = digits()
    assert len(opened.dataset.train) == 200
    arm, seen = setup.arms[1], []
    whole = run(experiment, setup, opened, arm, tmp_path / "whole")

    def stop(what: str, done: float, total: float, **_: object) -> None:
        seen.append(done)
        if what == "train" and done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(experiment, setup, opened, arm, tmp_path / "cut", stop)
    assert (tmp_path / "cut" / "last.pt").exists()
    seen.clear()
    resumed = run(experiment, setup, opened, arm, tmp_path / "cut", lambda what, done, total, **_: seen.append(done))
    assert replace(resumed, seconds=0.0) == replace(whole, seconds=0.0)
    assert whole.updates == 8 and min(done for done in seen if done) > 1


def test_a_diverged_training_is_a_row(tmp_path) -> None:
    experiment, setup, opened = digits()
    setup = replace(setup, training=setup.training.model_copy(update={"learning_rate": 1e30}))
    found = run(experiment, setup, opened, setup.arms[0], tmp_path)
    test = opened.dataset.test.labels
    guess = np.bincount(opened.dataset.train.labels).argmax()
    assert found.diverged and found.error == pytest.approx(100 * np.mean(test != guess))


def test_rows_hold_what_the_network_got_wrong(tmp_path, monkeypatch) -> None:
    experiment, setup, opened = digits()
    kept = {}
    real = training.score

    def keep(network, split, preprocess):
        kept["logits"] = real(network, split, preprocess)
        return kept["logits"]

    monkeypatch.setattr(training, "score", keep, raising=False)
    found = run(experiment, setup, opened, setup.arms[0], tmp_path)
    wrong = np.flatnonzero(kept["logits"].argmax(1) != opened.dataset.test.labels)
    assert found.wrong == tuple(wrong) and found.error == pytest.approx(100 * len(wrong) / len(opened.dataset.test))
