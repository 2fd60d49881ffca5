"""``convsmith precision show``, and a run that trains under a plan."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from convsmith import runs
from convsmith.formats import Format
from convsmith.precision import Plan, Rule

Call = Callable[..., tuple[int, str, str]]
CallJson = Callable[..., tuple[int, Any]]

PLAN = Plan(
    (
        Rule("*", "weight", Format.fixed(3, 13), rounding="stochastic"),
        Rule("*", "activation", Format.float(5, 10)),
        Rule("*", "update", Format.fixed(3, 13), rounding="stochastic"),
    ),
    "sixteen",
)


def test_a_plan_is_shown(call: Call, call_json: CallJson, trained: Path, tmp_path: Path) -> None:
    PLAN.save(tmp_path / "plan.json")
    code, out, _ = call("precision", "show", tmp_path / "plan.json")
    assert code == 0 and out.strip() == str(PLAN)
    code, out, _ = call("precision", "show", tmp_path / "plan.json", "--run", trained)
    assert code == 0 and "batch_norm" in out and "e5m10" in out
    code, found = call_json("precision", "show", tmp_path / "plan.json", "--model", "resnet20", "--size", 16)
    rows = found["result"]["tensors"]
    assert code == 0 and found["result"]["plan"] == PLAN.to_dict()
    weights = [row for row in rows if row["role"] == "weight" and row["operator"] == "conv2d"]
    assert len(weights) == 19 and {row["rule"]["format"] for row in weights} == {"fixed<3,13>"}


def test_what_cannot_be_shown(call: Call, trained: Path, tmp_path: Path) -> None:
    code, _, err = call("precision", "show", tmp_path / "none.json")
    assert code == 3 and "there is no plan" in err
    Plan((Rule("conv7", "weight", Format.fixed(2, 6)),)).save(tmp_path / "other.json")
    code, _, err = call("precision", "show", tmp_path / "other.json", "--run", trained)
    assert code == 2 and "rule 1 ('conv7', weight) matches nothing; layers with a tensor of that role are" in err
    code, _, err = call("precision", "show", tmp_path / "other.json", "--run", trained, "--model", "resnet20")
    assert code == 2 and "a plan is shown for one network" in err


def test_train_under_a_plan(call_json: CallJson, tmp_path: Path) -> None:
    PLAN.save(tmp_path / "plan.json")
    folder = tmp_path / "run"
    words = ("--epochs", 2, "--threads", 1, "--deterministic", "--plan", tmp_path / "plan.json", "--set", "training.count_every=20")
    code, found = call_json("train", "digits", *words, "--out", folder)
    run = runs.open(folder)
    assert code == 0 and found["result"]["top1"] > 0.8
    assert run.read_json("training.json")["plan"] == PLAN.to_dict()
    counts = run.read_json("counts.json")
    assert {row["step"] % 20 for row in counts} == {0} and any(row["underflow"] for row in counts)
    assert (folder / "counts.svg").stat().st_size > 5000
    tables = [event["table"] for event in run.events() if event["kind"] == "formats"]
    assert len(tables) == 1 and "fixed<3,13>" in tables[0]
