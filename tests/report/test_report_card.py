"""The model card: what a reader and Hugging Face find in it, and that strange names cannot break it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from fake_run import write_run

from convsmith import report, runs
from convsmith.report.card import plain


def read(folder: Path) -> tuple[dict, str]:
    """Return the front matter and the rest."""
    path = report.write_card(folder)
    assert path.name == "MODEL_CARD.md"
    empty, front, body = path.read_text(encoding="utf-8").split("---\n", 2)
    assert empty == ""
    return yaml.safe_load(front), body


def cells(body: str, first: str) -> list[list[str]]:
    """Return the rows of the table whose head begins with a cell."""
    lines = body.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {first} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return rows


def test_the_card_tells_what_the_run_measured(tmp_path: Path) -> None:
    evaluation = write_run(tmp_path / "run")
    front, body = read(tmp_path / "run")
    assert front["library_name"] == "convsmith" and front["pipeline_tag"] == "image-classification" and "license" not in front
    result = front["model-index"][0]["results"][0]
    assert result["metrics"][0]["value"] == pytest.approx(evaluation.top1, abs=1e-6) and result["dataset"]["split"] == "test"
    by_class = cells(body.split("## Metrics")[1], "class")
    assert [row[0] for row in by_class] == list(evaluation.classes)
    assert [int(row[4]) for row in by_class] == [score.support for score in evaluation.per_class]
    assert by_class[1][1].startswith(f"{100 * evaluation.per_class[1].precision:.1f}")
    mistakes = sum(int(row[2]) for row in cells(body, "true"))
    assert 0 < mistakes <= evaluation.n - round(evaluation.top1 * evaluation.n)
    assert cells(body, "file")[0][3] == "ONNX Runtime: none of 360 images predicted otherwise"
    assert ["ONNX Runtime", "whole file", "1"] == cells(body, "runtime")[6][:3]
    assert sum(int(cell) for row in cells(body.split("## Data")[1], "class") for cell in row[1:]) == 1799
    assert "    convsmith forge 'my digits' --max-drop 0.5 --time 10m" in body and "## Intended use" in body
    assert "\n\n\n\n" not in body


def test_what_a_person_said_and_later_files_are_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    write_run(folder)
    (folder / "card.json").write_text(json.dumps({"intended": "Reading meters.", "license": "apache-2.0"}))
    (folder / "confidence.json").write_text(json.dumps({"temperature": 1.25, "threshold": 0.4, "answered": 0.9, "right": 0.99}))
    export = json.loads((folder / "export.json").read_text()) | {"target": "qdq", "path": "model.qdq.onnx", "plan": "int8", "parity": None}
    (folder / "export-qdq.json").write_text(json.dumps(export))
    front, body = read(folder)
    assert front["license"] == "apache-2.0" and "Reading meters." in body and "temperature 1.250" in body
    files = cells(body, "file")
    assert [row[1] for row in files] == ["qdq (int8)", "onnx"] and files[0][3] == "not run here"


def test_strange_names_stay_one_cell(tmp_path: Path) -> None:
    names = ("a|b", "new\nline", "<script>", "*x*", "[y](z)", "---", "é", "`c`", "#h", "plain")
    write_run(tmp_path / "run", classes=names)
    front, body = read(tmp_path / "run")
    rows = cells(body.split("## Metrics")[1], "class")
    assert [row[0] for row in rows] == [plain(name) for name in names] and all(len(row) == 5 for row in rows)
    assert "<script>" not in body.replace("\\<script\\>", "") and front["metrics"] == ["accuracy"]


def test_a_run_that_did_little_has_a_card(tmp_path: Path) -> None:
    runs.create(tmp_path / "run", "train", {}, data="x", command=("convsmith", "train", "x"))
    front, body = read(tmp_path / "run")
    assert "model-index" not in front and "## Metrics" not in body and "# x" in body
    (tmp_path / "run" / "dataset.json").write_text("{broken")
    assert "A file of the run could not be read" in read(tmp_path / "run")[1]
