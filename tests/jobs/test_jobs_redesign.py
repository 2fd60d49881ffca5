"""`redesign`: a quicker run of its own that evaluates and exports like any other, and says what each edit did."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from convsmith import compiler, data, jobs, redesign, runs
from convsmith.analysis import analyse
from convsmith.errors import DataError, UsageError
from convsmith.graph import Graph
from convsmith.jobs import edit_decision, edit_search
from convsmith.jobs import redesign as job


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("redesign") / "parent"
    settings = {"data": "digits", "model": "mlperf_resnet8", "size": 16, "training": {"epochs": 2, "threads": 1, "batch": 64}}
    jobs.perform("train", settings, out=folder)
    return folder


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Time layers by their multiplications, so that the choice is the same on every machine."""

    def layers(self: compiler.Timing, graph: Graph) -> Mapping[str, float]:
        return {layer.name: 1e-9 * layer.macs + 1e-6 for layer in analyse(graph).layers if layer.macs}

    monkeypatch.setattr(compiler.Timing, "layers", layers)
    monkeypatch.setenv("CONVSMITH_TUNING", str(tmp_path / "tuning.json"))


FEW = {"calibration": 64, "images": 100, "threads": 1, "edits": ["prune", "skip", "shortcut"]}


def test_a_quicker_run(parent: Path, tmp_path: Path) -> None:
    outcome = jobs.perform("redesign", {"run": str(parent), "speedup": 1.5} | FEW, out=tmp_path / "quick")
    result, folder = outcome.result, tmp_path / "quick"
    assert result["predicted_s"]["after"] <= result["predicted_s"]["before"] / 1.5 * 1.001 and result["macs"][1] < result["macs"][0]
    edits = [redesign.Edit.from_dict(fields) for fields in json.loads((folder / "model.json").read_text())["edits"]]
    assert edits and [step["edit"] for step in result["steps"]][1:-1] == [str(edit) for edit in edits]
    assert result["steps"][-1]["edit"] == "corrected means and deviations"
    # predicted times of the steps fall, as the price list says
    assert all(b["predicted_s"] <= a["predicted_s"] for a, b in zip(result["steps"], result["steps"][1:], strict=False))
    evaluated = jobs.perform("eval", {"run": str(folder)}).result
    assert evaluated["top1"] == result["top1"] == pytest.approx(result["accuracy"])
    exported = jobs.perform("export", {"run": str(folder), "images": 50}).result
    assert exported["parity"]["different"] == 0
    text = job.lines(result)
    assert "times as fast" in text and "on 359 test images" in text and ("More was lost" in text) == (not result["holds"])


def test_as_fast_as_the_drop_allows_and_healed(parent: Path, tmp_path: Path) -> None:
    settings = {"run": str(parent), "max_drop": 3.0, "epochs": 1.0} | FEW
    result = jobs.perform("redesign", settings, out=tmp_path / "healed").result
    assert result["edits"] and [step["edit"] for step in result["steps"]][-1] == "healed by training"
    before, after = (step["accuracy"] for step in result["steps"][-2:])
    assert after >= before - 0.02
    # a run of edits can be edited again
    again = jobs.perform("redesign", {"run": str(tmp_path / "healed"), "max_drop": 0.0} | FEW, out=tmp_path / "again").result
    assert again["predicted_s"]["after"] <= result["predicted_s"]["after"] * 1.001


def test_smaller_images_are_the_middle_of_the_old_ones(parent: Path, tmp_path: Path) -> None:
    settings = {"run": str(parent), "speedup": 1.2, "edits": ["input"]} | {key: FEW[key] for key in ("calibration", "images", "threads")}
    result = jobs.perform("redesign", settings, out=tmp_path / "small").result
    stored = json.loads((tmp_path / "small" / "preprocess.json").read_text())
    assert (
        stored["height"] == stored["width"] in (12, 14) and stored["crop_fraction"] == stored["height"] / 16 and stored["resize"] == "crop"
    )
    assert jobs.perform("eval", {"run": str(tmp_path / "small")}).result["top1"] == result["top1"]
    given = data.Preprocess(16, 16, channels=1, resize="squash", mean=(0.5,), std=(0.5,))
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 1), np.uint8)
    whole, part = (data.normalise(data.resize(image, p)[None], p) for p in (given, edit_search.smaller(given, (14, 14))))
    np.testing.assert_array_equal(edit_search.middle(whole, (14, 14)), part)


def test_what_cannot_be_is_said(parent: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give one of them"):
        jobs.perform("redesign", {"run": str(parent), "speedup": 2, "max_ms": 1.0}, out=tmp_path / "a")
    with pytest.raises(UsageError, match=r"there is no edit of kind 'prun'.*Did you mean 'prune'"):
        jobs.perform("redesign", {"run": str(parent), "edits": ["prun"]}, out=tmp_path / "a")
    assert not (tmp_path / "a").exists()
    with pytest.raises(UsageError, match=r"no edits make it as quick as 1e-06 ms: it takes .* ask for less, or allow more kinds of edit"):
        jobs.perform("redesign", {"run": str(parent), "max_ms": 1e-6} | FEW, out=tmp_path / "b")


def test_an_interrupted_redesign_goes_on(parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped while edits are weighed, and again while it is healed: the losses are not estimated twice, the network is the same."""
    settings = {"run": str(parent), "speedup": 1.5, "epochs": 1.0} | FEW
    whole = jobs.perform("redesign", settings, out=tmp_path / "whole").result
    asked: list[str] = []
    weigh, heal = edit_search.answer_noise, job.healing.heal

    def noise(*answers: object) -> float:
        asked.append("loss")
        if len(asked) == 4:
            raise KeyboardInterrupt
        return weigh(*answers)  # type: ignore[arg-type]

    def stopped(*_: object, **__: object) -> Graph:
        raise KeyboardInterrupt

    folder = tmp_path / "cut"
    monkeypatch.setattr(edit_search, "answer_noise", noise)
    with pytest.raises(KeyboardInterrupt):
        jobs.perform("redesign", settings, out=folder)
    kept = json.loads((folder / edit_decision.LOSSES).read_text())["edits"]
    assert len(kept) == 3 and runs.open(folder).status == "interrupted"
    monkeypatch.setattr(job.healing, "heal", stopped)
    with pytest.raises(KeyboardInterrupt):
        jobs.perform("resume", {"run": str(folder)})
    weighed = len(asked)
    assert not (folder / edit_decision.LOSSES).exists() and (folder / edit_decision.FILE).exists()
    monkeypatch.setattr(job.healing, "heal", heal)
    result = jobs.perform("resume", {"run": str(folder)}).result
    assert len(asked) == weighed  # decided before
    assert result["edits"] == whole["edits"] and abs(result["accuracy"] - whole["accuracy"]) < 0.02  # number format is chosen by timing
    assert runs.open(folder).status == "finished" and "healed by training" in job.lines(result)
    assert not (folder / edit_decision.FILE).exists() and not (folder / edit_decision.NETWORK).exists()


def test_a_decision_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    record = runs.create(tmp_path / "run", "redesign", {}, data="digits")
    record.write_json(edit_decision.FILE, {"edits": []})
    with pytest.raises(DataError, match=r"redesign_decision.json cannot be read \('steps'\); remove it to decide anew"):
        edit_decision.recall(record, lambda: pytest.fail("it was decided before"))


def test_what_it_would_do(parent: Path, tmp_path: Path) -> None:
    quoted = jobs.lifecycle.quote("redesign", job.Config.model_validate({"run": str(parent), "speedup": 2.0, "time": "90s"} | FEW))
    assert quoted["target_s"] == pytest.approx(quoted["before_s"] / 2) and set(quoted["proposals"]) <= {"prune", "skip"}
    assert quoted["images"] == 100 and quoted["calibration"] == 64
    text = job.plan(quoted)
    assert "1 min 30 s at most, rate 0.001" in text and text.endswith("Nothing was done.") and "prune" in text
