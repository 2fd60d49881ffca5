"""The page of a sweep: heights follow values, the best is marked, and a share is what the study found."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from convsmith import report, runs
from convsmith.report.charts import Upright, parallel_chart


def test_heights_follow_values() -> None:
    scale = Upright("x", (), 1e-4, 1e-2, log=True)
    assert scale.place(1e-4) == 0 and scale.place(1e-2) == pytest.approx(1) and scale.place(1e-3) == pytest.approx(0.5)
    assert Upright("x", (), 2, 4).place(3) == 0.5 and Upright("x", (), 2, 2).place(2) == 0.5
    assert [Upright("x", ("a", "b")).place(value) for value in "ab"] == [0.25, 0.75]
    assert [told for _, told in scale.labels()] == ["0.0001", "0.001", "0.01"]


def test_every_trial_is_a_line_and_the_best_lies_on_top() -> None:
    axes = [Upright("batch", ("32", "64")), Upright("accuracy", (), 0.5, 1.0)]
    svg = parallel_chart(axes, [([32, 1.0], 0), ([64, 0.5], 2), ([32, 0.75], 1)], label="three trials")
    lines = [element for element in ET.fromstring(svg).iter("polyline") if "line" in element.get("class", "")]
    heights = [[float(pair.split(",")[1]) for pair in line.get("points", "").split()] for line in lines]
    top, bottom = 62.0, 362.0
    assert heights == [[top + 75, bottom], [top + 225, (top + bottom) / 2], [top + 225, top]]
    assert lines[-1].get("class") == "line series-1"
    assert parallel_chart(axes, [], label="") == "" and parallel_chart(axes[:1], [([32], 0)], label="") == ""


def row(trial: int, state: str, rate: float, value: float | None, **more: Any) -> dict[str, Any]:
    empty = {"reached": None, "epochs": None, "seconds": 2.0, "run": f"/runs/t{trial}", "error": None, "figures": {}}
    return empty | {"trial": trial, "state": state, "params": {"learning_rate": rate, "model": "smallnet"}, "value": value} | more


def test_the_page_of_a_sweep(tmp_path: Path) -> None:
    record = runs.create(tmp_path / "sweep", "sweep", {"verb": "train", "data": "digits"}, data="digits")
    assert "No trial of this sweep has begun yet." in report.render(tmp_path / "sweep")
    rows = [
        row(0, "finished", 0.01, 0.9),
        row(1, "finished", 0.0123456, 0.95),
        row(2, "pruned", 0.1, None, reached=0.2, epochs=3),
        row(3, "failed", 1.0, None, error="the loss <is> no longer a number"),
    ]
    axis = {"name": "learning_rate", "values": [], "low": 0.001, "high": 1.0, "log": True}
    model = {"name": "model", "values": ["smallnet", "resnet18"], "low": 0.0, "high": 0.0, "log": False}
    spec = {"metric": "val_accuracy", "sampler": "tpe", "direction": "maximize"}
    stored = {"rows": rows, "best": rows[1], "axes": [axis, model], "spec": spec, "importance": {"learning_rate": 1.0}}
    record.write_json("sweep.json", stored)
    page = report.render(tmp_path / "sweep")
    assert "2 finished, 1 pruned, 1 failed (sampler: tpe)" in page
    assert 'aria-label="3 trials: their settings and val_accuracy, 0.200 to 0.950"' in page
    assert (
        page.index("<strong>best</strong>") < page.index("t0</td>") < page.index("pruned after 3 epochs") < page.index("is&gt; no longer")
    )
    assert "0.01235" in page and ">smallnet</td>" in page and "95.0" in page and "Fewer bits" not in page and "<is>" not in page
