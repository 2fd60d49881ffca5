"""``average`` weighs every way on a run's images, ``eval --average`` answers in one of them, and the page shows it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from convsmith import jobs, report, runs
from convsmith.errors import UsageError
from convsmith.jobs import average, sources, trained
from convsmith.training import score

BASE = {"data": "digits", "epochs": 2, "threads": 1, "deterministic": True}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two runs with other seeds; the first kept snapshots and had dropout."""
    folder = tmp_path_factory.mktemp("pair")
    more = {"snapshots": 3, "dropout": 0.2, "validate_every": 1}
    jobs.perform("train", {**BASE, "training": more}, out=folder / "first")
    jobs.perform("train", {**BASE, "seed": 1}, out=folder / "second")
    return folder / "first", folder / "second"


def test_every_way_is_weighed_and_the_page_shows_it(pair: tuple[Path, Path]) -> None:
    first, second = map(str, pair)
    result = jobs.perform("average", {"run": first, "others": [second], "draws": 3}).result
    rows = {row["name"]: row for row in result["rows"]}
    assert list(rows) == ["plain", "flip", "crops", "scales", "dropout", "checkpoints", "swa", "ensemble", "soup"]
    assert result["absent"] == {} and result["n"] == 359
    assert [rows[name]["passes"] for name in ("plain", "flip", "crops", "scales", "dropout", "checkpoints", "ensemble")] == [
        1, 2, 10, 50, 3, 3, 2
    ]  # fmt: skip
    plain = rows["plain"]
    assert plain["gain"] == 0 and plain["cost"] == 1
    network = trained.load(runs.open(first))
    dataset = sources.reopen(network.run.read_json("dataset.json"), runs.Unrecorded())
    exact = score(network.module, dataset.val, network.preprocess).argmax(1) == dataset.val.labels
    assert plain["accuracy"] == pytest.approx(exact.mean())
    for row in result["rows"]:
        assert row["gain_low"] <= row["gain"] <= row["gain_high"]
        assert row["gain"] == pytest.approx(100 * (row["gained"] - row["lost"]) / 359)
    # digits are no mirror images of each other: the table must say so
    assert rows["flip"]["gain_high"] < 0
    page = (Path(first) / "report.html").read_text()
    assert "Looking more than once" in page and "ten crops at five scales" in page
    text = average.lines(result)
    assert "times plain" in text and "359 images of part val" in text


def test_eval_answers_with_the_average_and_leaves_the_plain_one(pair: tuple[Path, Path]) -> None:
    first, second = pair
    before = (first / "evaluation.json").read_bytes(), (first / "predictions.npz").read_bytes()
    plain = [runs.open(folder).predictions() for folder in pair]
    result = jobs.perform("eval", {"run": str(first), "average": "ensemble", "others": [str(second)]}).result
    powers = [np.exp(found.logits - found.logits.max(1, keepdims=True)) for found in plain]
    mean = sum(power / power.sum(1, keepdims=True) for power in powers)
    assert result["top1"] == pytest.approx((mean.argmax(1) == plain[0].labels).mean()) and result["average"] == "ensemble"
    assert runs.open(first).read_json("evaluation-ensemble.json")["top1"] == result["top1"]
    assert before == ((first / "evaluation.json").read_bytes(), (first / "predictions.npz").read_bytes())
    swa = jobs.perform("eval", {"run": str(first), "average": "swa"}).result
    assert swa["top1"] > 0.5


def test_what_cannot_be_averaged_says_why(pair: tuple[Path, Path], tmp_path: Path) -> None:
    first, second = map(str, pair)
    with pytest.raises(UsageError, match=r"--average swa is not possible here: the run kept no snapshots; train with --set training\.snap"):
        jobs.perform("eval", {"run": second, "average": "swa"})
    with pytest.raises(UsageError, match="--average dropout is not possible here: the network was trained without dropout"):
        jobs.perform("eval", {"run": second, "average": "dropout"})
    other = jobs.perform("train", {**BASE, "epochs": 1, "split_seed": 3}, out=tmp_path / "other").folder
    with pytest.raises(UsageError, match="was trained on other images or another split"):
        jobs.perform("average", {"run": first, "others": [str(other)]})
    result = jobs.perform("average", {"run": second, "images": 40}).result
    assert set(result["absent"]) == {"dropout", "checkpoints", "swa", "ensemble", "soup"} and result["n"] == 40
    assert "Not measured: checkpoints" in report.render(second)


def row(name: str, accuracy: float, ms: float, low: float) -> dict[str, object]:
    return {"name": name, "accuracy": accuracy, "ms": ms, "cost": ms, "gain_low": low}


def test_the_choice_is_sure_and_within_three_times_the_cost() -> None:
    rows = [row("plain", 0.8, 1, 0), row("flip", 0.82, 2, 0.5), row("crops", 0.9, 10, 5.0), row("swa", 0.83, 1, -0.2)]
    assert average.choose(rows) == "flip"
    assert average.choose(rows[:1] + rows[2:]) == "plain"
