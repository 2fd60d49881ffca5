"""``convsmith precision certify``."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from convsmith import runs
from convsmith.formats import Format, parse
from convsmith.precision import Plan, Rule

Call = Callable[..., tuple[int, str, str]]
CallJson = Callable[..., tuple[int, Any]]

INT8 = Plan(
    (
        Rule("*", "weight", parse("int8:symmetric"), scale="channel"),
        Rule("*", "activation", Format.integer(8), scale="tensor"),
        Rule("classifier", "activation", None),
    ),
    "eight",
)


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained run that the test may write into."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def test_a_run_is_certified(call: Call, call_json: CallJson, run: Path, tmp_path: Path) -> None:
    INT8.save(tmp_path / "plan.json")
    code, found = call_json("precision", "certify", run, "--plan", tmp_path / "plan.json", "--images", 60)
    result = found["result"]
    assert code == 0 and found["ok"] and found["verb"] == "precision certify"
    assert result["n"] == 60 and 0.3 < result["certain"] <= result["likely"] <= 1
    assert sum(result["room"]["counts"]) == 60 and len(result["least_room"]) == 10
    assert sum(result["reasons"].values()) == round(60 * (1 - result["certain"]))
    assert all(row["bits"] <= row["l1_bits"] <= row["type_bits"] for row in result["widths"]) and len(result["widths"]) > 1
    stored = runs.open(run)
    assert stored.read_json("certificate.json")["plan"] == INT8.to_dict()
    page = (run / "report.html").read_text()
    assert "What is proved" in page and "whatever the order of additions" in page
    code, out, _ = call(
        "precision", "certify", run, "--plan", tmp_path / "plan.json", "--images", 20, "--against", "exact", "--failure", 1e-3
    )
    assert code == 0 and "for certain, whatever the order of additions" in out and "but for a probability of 0.001 an image" in out
    code, out, _ = call("precision", "certify", run, "--plan", "bf16", "--images", 20)
    assert code == 0 and "for certain, whatever the order of additions" in out
    code, out, _ = call(
        "precision", "certify", run, "--plan", tmp_path / "plan.json", "--images", 20, "--against", "exact", "--failure", 1e-3
    )
    assert "cannot lose the class of exact arithmetic" in out and "Bits with which a layer's sums cannot overflow" in out


def test_what_cannot_be_certified(call: Call, run: Path, tmp_path: Path) -> None:
    code, _, err = call("precision", "certify", run, "--plan", tmp_path / "none.json")
    assert code == 3 and "there is no plan" in err
    code, _, err = call("precision", "certify", run, "--plan", "bf61")
    assert code == 2 and "'bf61' is neither a file of a plan nor a number format such as int8" in err
    Plan((Rule("conv7", "weight", Format.fixed(2, 6)),)).save(tmp_path / "other.json")
    code, _, err = call("precision", "certify", run, "--plan", tmp_path / "other.json")
    assert code == 2 and "rule 1 ('conv7', weight) matches nothing; layers with a tensor of that role are" in err
    INT8.save(tmp_path / "plan.json")
    code, _, err = call("precision", "certify", run, "--plan", tmp_path / "plan.json", "--failure", 2)
    assert code == 2 and "failure" in err
    assert not (run / "certificate.json").exists()
