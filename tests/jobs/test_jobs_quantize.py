"""`precision quantize`: a run of codes that evaluates, exports and is measured like any other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from convsmith import graph as graphs
from convsmith import jobs
from convsmith.errors import UsageError
from convsmith.jobs import precision_quantize as quantize


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quantize") / "parent"
    jobs.perform("train", {"data": "digits", "model": "smallnet", "training": {"epochs": 2, "threads": 1}}, out=folder)
    return folder


def test_a_run_of_codes(parent: Path, tmp_path: Path) -> None:
    outcome = jobs.perform("precision quantize", {"run": str(parent), "images": 64}, out=tmp_path / "codes")
    result, folder = outcome.result, tmp_path / "codes"
    assert abs(result["drop"]) <= 1.5 and result["n"] == 359
    assert result["engines"]["engines"][0] == {"engine": "torch", "different": 0, "largest_difference": 0.0, "other_class": 0}
    stored = graphs.load(folder / "network.safetensors")
    assert {array.dtype for name, array in stored.weights.items() if name.endswith("weight.codes")} == {np.dtype(np.int8)}
    assert result["weight_bytes"] < 0.35 * result["float32_weight_bytes"]
    evaluated = jobs.perform("eval", {"run": str(folder)}).result
    assert evaluated["top1"] == result["top1"] == result["accuracy"]
    for target in ("onnx", "native"):
        exported = jobs.perform("export", {"run": str(folder), "to": target, "images": 100}).result
        assert exported["parity"]["different"] == 0
    with pytest.raises(UsageError, match="is a network of codes, which needs no plan: --to onnx writes its codes as QDQ"):
        jobs.perform("export", {"run": str(folder), "to": "qdq"})
    assert json.loads((folder / "model.json").read_text())["parent"] == str(parent)
    with pytest.raises(UsageError, match="is a network of codes already; quantize the run it was made from"):
        jobs.perform("precision quantize", {"run": str(folder)}, out=tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_codes_without_images(parent: Path, tmp_path: Path) -> None:
    outcome = jobs.perform("precision quantize", {"run": str(parent), "images": 0}, out=tmp_path / "blind")
    assert abs(outcome.result["drop"]) <= 3 and outcome.result["engines"]["engines"][0]["different"] == 0
    assert "statistics of batch norm: max + equalise + bias" in quantize.lines(outcome.result)
    for wrong in ({"images": 1}, {"images": 0, "ranges": "mse"}, {"images": 0, "measures": ["bias"]}):
        with pytest.raises(UsageError, match="give --images 2 or more; or 0, without --ranges and --measures"):
            jobs.perform("precision quantize", {"run": str(parent)} | wrong, out=tmp_path / "wrong")
    assert not (tmp_path / "wrong").exists()


def test_a_little_training_afterwards(parent: Path, tmp_path: Path) -> None:
    plan = tmp_path / "w2.json"
    plan.write_text(json.dumps({"version": 2, "name": "w2", "rules": [
        {"layer": "*", "role": "weight", "format": "int2:symmetric", "scale": "channel"},
        {"layer": "*", "role": "activation", "format": "int8", "scale": "tensor"},
    ]}))  # fmt: skip
    settings = {"run": str(parent), "plan": str(plan), "images": 64, "measures": ["bias"]}
    before = jobs.perform("precision quantize", settings, out=tmp_path / "before").result
    after = jobs.perform("precision quantize", settings | {"epochs": 2, "learning_rate": 1e-3}, out=tmp_path / "after").result
    assert after["accuracy"] > before["accuracy"] + 0.1, "weights of -1, 0 and 1 lose much, and learn it again"
    assert after["engines"]["engines"][0]["different"] == 0
