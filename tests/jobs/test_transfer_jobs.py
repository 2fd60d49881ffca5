"""Train and probe from given weights, through the verbs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from convsmith import jobs, models, runs
from convsmith.errors import UsageError
from convsmith.jobs import preparation, probe, train, trained, transfer
from convsmith.training import Training


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of small colour images that differ in colour."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for place, name in enumerate(("red", "green", "blue")):
        (folder / name).mkdir()
        for number in range(24):
            image = rng.integers(0, 100, (32, 32, 3), np.uint8)
            image[..., place] += 120
            Image.fromarray(image).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "source.safetensors"
    save_file(models.load("resnet20", classes=10).state_dict(), path)
    return path


def test_linear_moves_the_head_alone_and_the_run_is_whole(photos: Path, weights: Path, tmp_path: Path) -> None:
    settings = {"data": str(photos), "weights": str(weights), "threads": 1, "strategy": "linear"}
    outcome = jobs.perform("train", settings, out=tmp_path / "run")
    assert outcome.folder
    run = runs.open(outcome.folder)
    assert outcome.result["top1"] > 0.9
    described = run.read_json("model.json")
    assert (described["name"], described["source"]["path"]) == ("resnet20", str(weights))
    stages = {row["stage"]: row for row in run.read_json("decisions.json")}
    assert stages["weights"]["choice"] == "resnet20"
    assert stages["strategy"] == {"stage": "strategy", "choice": "linear", "reason": "as asked"}
    before, after = load_file(weights), load_file(outcome.folder / "weights.safetensors")
    assert {name for name in before if not torch.equal(before[name], after[name])} == {"linear.weight", "linear.bias"}
    loaded = trained.load(run)
    assert torch.equal(loaded.module.state_dict()["linear.weight"], after["linear.weight"])
    # the input is that of the source, not of the images
    assert loaded.preprocess.mean == (0.485, 0.456, 0.406)


def test_auto_does_what_the_probe_recommends_and_minds_the_time(photos: Path, weights: Path) -> None:
    settings = {"data": str(photos), "weights": str(weights), "threads": 1, "epochs": 1}
    for time_s, strategy in ((None, "wise"), (0.5, "linear")):
        prepared = preparation.prepare(train.Config.model_validate(settings | {"time": time_s}), runs.Unrecorded())
        told = {row["stage"]: row for row in prepared.decisions}["strategy"]
        assert told["choice"] == strategy and "images a class are little" in told["reason"]
        assert ("wise would take" in told["reason"]) == (time_s is not None)
        assert prepared.training.transfer.blend == (0.5 if strategy == "wise" else 0)


@pytest.mark.parametrize("strategy", ["head_first", "fine_tune", "full"])
def test_every_strategy_can_be_forced(strategy: str, photos: Path, weights: Path, tmp_path: Path) -> None:
    settings = {"data": str(photos), "weights": str(weights), "threads": 1, "strategy": strategy, "epochs": 1}
    outcome = jobs.perform("train", settings, out=tmp_path / "run")
    assert outcome.folder
    training = runs.open(outcome.folder).read_json("training.json")
    assert training["transfer"]["strategy"] == strategy and training["transfer"]["freeze_norm"] is True and training["epochs"] == 1
    before, after = load_file(weights), load_file(outcome.folder / "weights.safetensors")
    if strategy == "fine_tune":  # its bottom third is frozen
        assert torch.equal(before["conv1.weight"], after["conv1.weight"])
    assert not torch.equal(before["layer3.2.conv2.weight"], after["layer3.2.conv2.weight"])


def test_scratch_leaves_the_weights_alone(photos: Path, weights: Path, tmp_path: Path) -> None:
    settings = {"data": str(photos), "weights": str(weights), "threads": 1, "strategy": "scratch", "model": "resnet20", "epochs": 1}
    outcome = jobs.perform("train", settings, out=tmp_path / "run")
    assert outcome.folder
    assert "source" not in runs.open(outcome.folder).read_json("model.json")


def test_probe_scores_stages_and_draws(photos: Path, weights: Path, tmp_path: Path) -> None:
    settings = {"data": str(photos), "weights": str(weights), "plot": str(tmp_path / "depth.svg")}
    outcome = jobs.perform("probe", settings)
    assert outcome.folder is None
    stages = [row["stage"] for row in outcome.result["stages"]]
    assert stages == ["layer1.2", "layer2.2", "layer3.2"]
    assert all(row["accuracy"] > 0.9 for row in outcome.result["stages"])
    assert (tmp_path / "depth.svg").read_text().startswith("<svg ")
    text = probe.lines(outcome.result)
    for word in ("LogME", "H-score", "layer2.2", "mean of the weights before and after", "minutes", "its input is that of torchvision"):
        assert word in text


def test_what_cannot_be_probed(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="probe needs the pretrained weights to probe: --weights FILE"):
        jobs.perform("probe", {"data": str(photos)})
    path = tmp_path / "own.safetensors"
    save_file(models.load("photonet", classes=3, input_size=(64, 64)).state_dict(), path)
    with pytest.raises(UsageError, match="belongs to a network of Convsmith's own"):
        jobs.perform("probe", {"data": str(photos), "weights": str(path), "model": "photonet"})


@pytest.mark.parametrize(
    ("strategy", "frozen"),
    [
        ("linear_on_stage", None),
        ("surgical", {"bottom"}),
        ("lp_ft", set()),
        ("bit", set()),
    ],
)
def test_the_further_strategies_can_be_forced(strategy: str, frozen: set[str] | None, photos: Path, weights: Path, tmp_path: Path) -> None:
    settings: dict[str, object] = {"data": str(photos), "weights": str(weights), "threads": 1, "strategy": strategy, "epochs": 1}
    if strategy == "bit":
        settings |= {"size": 32, "training": {"schedule": {"warmup": 0.5, "milestones": [0.2]}}}
    if strategy == "surgical":
        settings["training"] = {"transfer": {"block": "top"}}
    outcome = jobs.perform("train", settings, out=tmp_path / "run")
    run = runs.open(tmp_path / "run")
    loaded = trained.load(run)
    chosen = [row for row in run.read_json("decisions.json") if row["stage"] == "strategy"]
    assert chosen[0]["choice"] == strategy and outcome.result["top1"] > 0.5
    before, after = load_file(weights), loaded.module.state_dict()
    if strategy == "linear_on_stage":
        # colours are told by the first stage: a network cut there, its body untouched, that can be exported and resumed
        assert run.read_json("model.json")["options"]["cut"] in chosen[0]["reason"]
        assert all(torch.equal(value, before[name.removeprefix("body.")]) for name, value in after.items() if name.startswith("body."))
        assert len(after) < len(before)
        assert jobs.perform("export", {"run": str(run.folder)}).result["parity"]["passed"]
        return
    still = {name for name in before if torch.equal(before[name], after[name]) and "running" not in name and "num_batches" not in name}
    if frozen:
        assert "conv1.weight" in still and "layer3.2.conv2.weight" not in still
    else:
        assert not {name for name in still if name.endswith("conv1.weight")}


def test_what_strategies_add_to_their_names() -> None:
    of = {name: Training.model_validate(transfer.settings(name, 500)).transfer for name in ("l2_sp", "layer_decay", "full")}
    assert of["l2_sp"].anchor == 0.01 and of["layer_decay"].layer_decay == 0.75 and of["full"].anchor == 0
    assert all(found.freeze_norm for found in of.values()) and not Training(**transfer.settings("full", 2000)).transfer.freeze_norm


def test_the_minutes_are_predicted_from_measurements(photos: Path, weights: Path) -> None:
    result = jobs.perform("probe", {"data": str(photos), "weights": str(weights)}).result
    minutes = result["minutes"]
    assert set(minutes) >= {"linear", "fine_tune", "full", "lp_ft", "surgical", "scratch"} and minutes["linear"] < minutes["scratch"]
    assert "an update of 32 images linear " in result["evidence"] and "Predicted: a pass over the" in probe.lines(result)
    assert result["recommendation"]["minutes"] == pytest.approx(minutes[result["recommendation"]["strategy"]])
