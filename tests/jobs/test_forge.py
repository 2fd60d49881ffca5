"""The whole flow: every stage leaves its file, the answers agree with each other, and a stopped run goes on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from convsmith import data, jobs, runs
from convsmith.jobs import bench, forge

SETTINGS = {"data": "digits", "epochs": 3, "threads": 1, "bits_images": 100}
STAGES = ("trained", "evaluation", "analysis", "precision", "plan", "export", "bench", "decisions", "quote")


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> jobs.Outcome:
    return jobs.perform("forge", SETTINGS, out=tmp_path_factory.mktemp("forge") / "run")


def test_every_stage_leaves_its_file_and_the_run_is_finished(outcome: jobs.Outcome) -> None:
    assert outcome.folder
    run = runs.open(outcome.folder)
    assert run.status == "finished"
    for stage in STAGES:
        assert run.has(f"{stage}.json"), stage
    assert outcome.report == outcome.folder / "report.html"
    assert outcome.report.read_text().startswith("<!doctype html>")


def test_accuracy_is_that_of_the_written_predictions(outcome: jobs.Outcome) -> None:
    assert outcome.folder
    stored = np.load(outcome.folder / "predictions.npz")
    assert outcome.result["top1"] == np.mean(stored["logits"].argmax(1) == stored["labels"])
    assert outcome.result["top1"] > 0.8  # three epochs of 1,079 digits


def test_the_file_alone_predicts_what_the_run_predicted(outcome: jobs.Outcome) -> None:
    assert outcome.folder
    assert outcome.result["export"]["parity"]["different"] == 0
    session = onnxruntime.InferenceSession(outcome.folder / "model.onnx", providers=["CPUExecutionProvider"])
    test = data.open("digits").test
    images = np.stack([test.image(index) for index in range(len(test))])
    logits = session.run(["logits"], {"image": images})[0]
    stored = np.load(outcome.folder / "predictions.npz")["logits"]
    np.testing.assert_allclose(logits, stored, atol=1e-4 * np.abs(stored).max())  # float32 sums in another order


def test_the_text_names_what_a_person_asks_for(outcome: jobs.Outcome) -> None:
    text = forge.lines(outcome.result)
    for word in ("test accuracy", "multiply-adds", "fewest bits", "parity", "onnxruntime", "images/s"):
        assert word in text


def test_bits_that_the_test_images_do_not_confirm_are_told(outcome: jobs.Outcome) -> None:
    bits = outcome.result["bits"] | {"chosen": "int5", "max_drop": 0.5}
    tested = {"accuracy": 0.98, "baseline": 0.99, "drop": 1.0}
    told = forge.lines({**outcome.result, "bits": bits | {"confirmed": tested}})
    assert "int5 within 0.5 points of the validation images, not confirmed (98.00 % against 99.00 % on the test images)" in told
    told = forge.lines({**outcome.result, "bits": bits | {"confirmed": tested | {"drop": 0.5}}})
    assert "int5 within 0.5 points (98.00 %" in told
    smaller = {"name": "int8", "ms": 0.0125, "speedup": 1.53, "file_bytes": 168_000, "folder": "shrink/int8", "drop": 0.1, "test": None}
    told = forge.lines({**outcome.result, "shrink": smaller})
    assert "int8 in shrink/int8: 0.0125 ms an image, 1.5 times as fast as float32 in the same engine, 168 kB, 0.10 points lost" in told
    assert "nothing that was tried is quicker than float32" in forge.lines({**outcome.result, "shrink": smaller | {"name": "float32"}})


def test_a_run_stopped_after_training_goes_on_without_training_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(bench, "run", stop)
        with pytest.raises(KeyboardInterrupt):
            jobs.perform("forge", SETTINGS | {"epochs": 1}, out=tmp_path / "run")
    assert runs.open(tmp_path / "run").status == "interrupted"
    written = (tmp_path / "run" / "weights.safetensors").stat().st_mtime_ns, (tmp_path / "run" / "export.json").stat().st_mtime_ns
    outcome = jobs.perform("resume", {"run": str(tmp_path / "run")})
    assert runs.open(tmp_path / "run").status == "finished"
    assert written == (
        (tmp_path / "run" / "weights.safetensors").stat().st_mtime_ns,
        (tmp_path / "run" / "export.json").stat().st_mtime_ns,
    )
    assert len(outcome.result["speed"]) >= 4


def test_photos_go_the_same_way(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, colour in (("red", (200, 40, 40)), ("blue", (40, 40, 200))):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for index in range(20):
            noise = rng.integers(-40, 40, (90 + index, 120, 3))
            Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)).save(folder / f"{index}.jpg")
    (tmp_path / "photos" / "red" / "broken.jpg").write_bytes(b"\xff\xd8 not a picture")
    outcome = jobs.perform("forge", {"data": str(tmp_path / "photos"), "epochs": 2, "threads": 1, "size": 64}, out=tmp_path / "run")
    assert outcome.result["export"]["parity"]["different"] == 0
    described = json.loads((tmp_path / "run" / "dataset.json").read_text())
    assert [Path(problem["name"]).name for problem in described["problems"]] == ["broken.jpg"]
    assert "broken.jpg" in (tmp_path / "run" / "report.html").read_text()


def test_the_quote_says_what_would_happen_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told = jobs.lifecycle.quote("forge", jobs.compose(forge.Config, flags=SETTINGS))
    assert told["model"] == "smallnet"
    assert told["quote"]["seconds"] > 0
    assert told["time_for_everything"] == "10 min 00 s"
    assert list(tmp_path.iterdir()) == []
