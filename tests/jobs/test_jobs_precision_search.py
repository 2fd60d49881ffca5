"""``precision search`` on a small trained run: what it writes, that it goes on, that it says what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from convsmith import jobs, precision, runs
from convsmith.errors import DataError, UsageError
from convsmith.jobs import precision_search
from convsmith.jobs.resume import check


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("searched") / "run"
    jobs.perform("train", {"data": "digits", "model": "mlp", "epochs": 4, "threads": 1, "deterministic": True}, out=folder)
    return folder


def test_a_search_writes_its_plan_and_says_what_it_spent(run: Path) -> None:
    outcome = jobs.perform("precision search", {"run": str(run), "max_drop": 1.0, "cost": "weight bits"})
    stored = json.loads((run / "search.json").read_text())
    plan = precision.Plan.load(run / "search_plan.json")
    assert plan.rules and stored["chosen"]["drop"] <= 1.0 and stored["evaluations"] <= 12
    assert stored["chosen"]["cost"] <= stored["uniform"]["cost"] < stored["cost"]["float32"]
    assert stored["confirmed"]["n"] == 359 and stored["part"] == "val"
    text = precision_search.lines(outcome.result)
    assert " images for the answer and " in text and "one backward pass scored all layers." in text
    assert not (run / precision_search.POINTS).exists()
    assert runs.open(run).status == "finished"


def test_an_interrupted_search_goes_on(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    settings = {"run": str(run), "max_drop": 2.0, "images": 200}

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def ask(self: object, plan: precision.Plan | None, *given: Any) -> Any:
            asked.append("float32" if plan is None else plan.name)
            if len(asked) == 5:
                raise KeyboardInterrupt
            return real(self, plan, *given)

        return ask

    for name in ("__call__", "until"):
        monkeypatch.setattr(precision.scoring.GraphScorer, name, counted(getattr(precision.scoring.GraphScorer, name)))
    with pytest.raises(KeyboardInterrupt):
        jobs.perform("precision search", settings)
    kept = json.loads((run / precision_search.POINTS).read_text())["points"]
    assert len(kept) == 2
    before = {name for name in asked[:4] if name != "float32"}
    asked.clear()
    asked += ["x"] * 5
    found = jobs.perform("precision search", settings).result
    assert not before & set(asked[5:]) and [point["format"] for point in found["points"][:2]] == [point["format"] for point in kept]


def test_what_cannot_be_searched_is_said(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no cost 'watts'; allowed are weight bits, bits moved, energy, bit operations, latency"):
        jobs.perform("precision search", {"run": str(run), "cost": "watts"})
    with pytest.raises(UsageError, match="the cost 'latency' needs measured prices"):
        jobs.perform("precision search", {"run": str(run), "cost": "latency"})
    (tmp_path / "prices.json").write_text("[1")
    with pytest.raises(DataError, match=r"prices\.json does not hold prices as JSON"):
        jobs.perform("precision search", {"run": str(run), "cost": "latency", "prices": str(tmp_path / "prices.json")})
    with pytest.raises(UsageError, match="there is no verb 'precision serch'"):
        jobs.perform("precision serch", {"run": str(run)})
    with pytest.raises(UsageError, match="is finished; there is nothing to resume"):
        check(runs.open(run))


def test_curves_of_a_run_are_traced_and_go_on(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from convsmith.jobs import precision_sweep

    settings = {"run": str(run), "variables": ["significand"], "moments": ["layer", "batch"], "images": 60, "depths": [1, 2], "widths": [8]}
    written: list[str] = []
    real = runs.Record.write_json

    def counting(self: runs.Record, name: str, value: object) -> Path:
        if name == precision_sweep.POINTS:
            written.append(name)
            if len(written) == 4:
                raise KeyboardInterrupt
        return real(self, name, value)

    monkeypatch.setattr(runs.Record, "write_json", counting)
    with pytest.raises(KeyboardInterrupt):
        jobs.perform("precision sweep", settings)
    assert len(json.loads((run / precision_sweep.POINTS).read_text())["points"]) == 3
    found = jobs.perform("precision sweep", settings)
    points = found.result["points"]
    assert len(written) == 4 + len(points) - 3 and {p["moment"] for p in points} == {"", "layer", "batch"}
    assert [row["layer"] for row in found.result["growth"] if row["bits"] == 23] == ["features.0", "features.2", "classifier"]
    assert "<svg" in (run / "sweep.svg").read_text()
    assert "fewest within 1 points" in precision_sweep.lines(found.result)
    page = (run / "report.html").read_text()
    assert "Where rounding happens" in page and "could not be read" not in page


def test_curves_of_trainings_are_a_run_of_their_own(tmp_path: Path) -> None:
    settings = {"run": "logistic", "data": "digits", "variables": ["exponent"], "moments": ["layer"], "epochs": 1.0}
    out = tmp_path / "sweep"
    found = jobs.perform("precision sweep", settings | {"depths": [1], "widths": [8]}, out=out)
    base, *others = found.result["points"]
    assert base["accuracy"] > 0.5 and others[0]["bits"] == 8 and abs(others[0]["accuracy"] - base["accuracy"]) < 0.1
    assert runs.open(out).status == "finished" and (out / "sweep.json").is_file()
    assert "Where rounding happens" in (out / "report.html").read_text()


def test_the_bits_of_a_training_are_searched_and_verified(run: Path) -> None:
    settings = {"run": str(run), "goal": "training", "max_drop": 3.0, "formats": ["e8m10", "e8m7", "e6m5"], "epochs": 2}
    outcome = jobs.perform("precision search", settings | {"seeds": 2, "attempts": 2})
    stored = json.loads((run / "training_search.json").read_text())
    assert stored["bits"] is not None and len(stored["drops"]) == 2 and set(stored["alone"].values()) <= {"e8m10", "e8m7", "e6m5"}
    assert precision.Plan.load(run / "training_search_plan.json").rules
    assert stored["cost"][0] < stored["cost"][1]
    text = precision_search.lines(outcome.result)
    assert "Trained in full with 2 seeds: drops of" in text and "of the bit operations of float32" in text
    page = (run / "report.html").read_text()
    assert "Bits of training" in page and "Bits by layer" in page and "could not be read" not in page


def test_a_schedule_is_compared_with_constant_plans(run: Path) -> None:
    from convsmith.jobs import precision_schedule

    settings = {"run": str(run), "seeds": 1, "epochs": 2, "switches": [0.5]}
    outcome = jobs.perform("precision schedule", settings)
    stored = json.loads((run / "schedule.json").read_text())
    assert [row["name"] for row in stored["rows"]] == ["e8m7", "e6m3", "e6m3 until epoch 1, then e8m7"]
    costs = [row["cost"] for row in stored["rows"]]
    assert costs[1] < costs[2] < costs[0] and costs[2] == pytest.approx((costs[0] + costs[1]) / 2)
    assert "converge faster at first is not confirmed here" in precision_schedule.lines(outcome.result)
    assert "Precision over a training" in (run / "report.html").read_text()
