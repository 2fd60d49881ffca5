"""The pages of sweeps: listed, drawn, linked to their runs, and readable while half of them is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from convsmith import runs


def write_sweep(root: Path, name: str = "search", **changed: Any) -> runs.Record:
    record = runs.create(root / name, "sweep", {"verb": "train", "data": "digits", "over": ["batch=32,64"]}, data="digits")
    empty = {"reached": None, "epochs": None, "seconds": 2.0, "host": "here", "error": None, "again": False, "figures": {}}
    good = {
        "trial": 0,
        "state": "finished",
        "params": {"batch": 32},
        "value": 0.9,
        "run": "/other/first",
        "figures": {"top1": 0.875},
    }
    bad = {"trial": 1, "state": "failed", "params": {"batch": 64}, "value": None, "run": "/far/gone", "error": "<b>no</b>"}
    rows = [empty | good, empty | bad]
    spec = {"verb": "train", "metric": "val_accuracy", "direction": "maximize", "sampler": "grid", "trials": 3, "over": ["batch=32,64"]}
    axis = {"name": "batch", "values": [32, 64], "low": 0.0, "high": 0.0, "log": False}
    record.write_json("sweep.json", {"spec": spec, "axes": [axis], "rows": rows, "best": rows[0], "importance": {"batch": 1.0}} | changed)
    return record


def test_sweeps_are_listed_and_shown(root: Path, browser: TestClient) -> None:
    assert "There is no sweep here yet." in browser.get("/sweeps").text
    write_sweep(root).finish("finished", trials=2)
    browser.app.state.studio.listing.rows(fresh=True)  # type: ignore[attr-defined]
    listed = browser.get("/sweeps").text
    assert 'href="/sweeps/search"' in listed and "2 of 3" in listed and "val_accuracy 0.9" in listed and "batch=32,64" in listed
    shown = browser.get("/runs/search")
    assert shown.status_code == 200 and shown.url.path == "/sweeps/search"
    assert browser.get("/runs/search", params={"stay": True}).url.path == "/runs/search"
    assert 'href="/runs/first"' in shown.text and "gone</td>" not in shown.text and 'href="/runs/gone"' not in shown.text
    assert "&lt;b&gt;no&lt;/b&gt;" in shown.text and "<b>no</b>" not in shown.text
    assert 'aria-label="1 trials: their settings and val_accuracy' in shown.text and "87.5" in shown.text
    assert "convsmith sweep train digits --over batch=32,64" in shown.text


def test_a_sweep_as_json(root: Path, client: TestClient) -> None:
    write_sweep(root)
    found = client.get("/api/sweeps/search").json()
    assert found["status"] == "running" and found["best"]["value"] == 0.9 and [row["run"] for row in found["rows"]] == ["first", "gone"]
    refused = client.get("/api/sweeps/first")
    assert refused.status_code == 404 and "first is no sweep with trials; it is a run of train" in refused.json()["error"]["message"]


def test_a_sweep_that_has_just_begun_or_cannot_be_read(root: Path, browser: TestClient) -> None:
    record = write_sweep(root)
    (root / "search" / "sweep.json").unlink()
    assert "none has begun" in browser.get("/sweeps/search").text
    record.write_bytes("sweep.json", b'{"rows": [{"trial": 1}], "spec"')
    assert "cannot be read" in browser.get("/sweeps/search").text
    record.write_json("sweep.json", {"rows": [{"trial": 1}]})
    assert browser.get("/sweeps/search").status_code == 200 and browser.get("/sweeps").status_code == 200


def test_the_form_takes_lists_with_commas(browser: TestClient, client: TestClient) -> None:
    form = browser.get("/new/sweep").text
    assert 'name="over"' in form.split("More settings")[0]
    typed = {"verb": "train", "data": "digits", "over": "learning_rate=0.01,0.1; batch=32,64", "fixed": "epochs=2"}
    (told,) = client.post("/api/verbs/describe", json={"verb": "sweep", "typed": typed, "preset": ""}).json()["jobs"]
    assert "--over learning_rate=0.01,0.1 --over batch=32,64 --fixed epochs=2" in told["command"]
