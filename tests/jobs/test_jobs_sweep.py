"""The sweep as a verb: what cannot be is refused at once; kills and Ctrl-C cost nothing; each trial is a run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import convsmith
from convsmith import runs, sweeps
from convsmith.errors import DataError, UsageError
from convsmith.jobs import sweep
from convsmith.jobs.configuration import validate


def config(**values: Any) -> sweep.Config:
    return validate(sweep.Config, {"verb": "train", "data": "digits", **values})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "nothing is varied; give for example --over learning_rate=0.003,0.01,0.03"),
        ({"over": ["lerning_rate=1,2"]}, "there is no setting lerning_rate. Did you mean 'learning_rate'"),
        ({"over": ["training.momentum=0.5,2"]}, "training.momentum: .*less than.*got 2"),
        ({"over": ["epochs=-1..3:1"]}, "epochs: should be greater than 0, got -1"),
        ({"over": ["batch=32,64", "batch=16"]}, "--over names batch twice"),
        ({"over": ["data=a,b"]}, "trials on different images cannot be compared"),
        ({"over": ["batch=8..64"], "sampler": "grid"}, "a grid needs lists, and batch is a range"),
        ({"over": ["batch=32,64"], "fixed": ["epoch=3"]}, "there is no setting epoch"),
        ({"over": ["batch=32,64"], "fixed": ["epochs"]}, "is not of the form a.b=value"),
        ({"over": ["batch=32,64"], "prune": True, "metric": "top1"}, "--prune compares trials epoch by epoch, by val_accuracy"),
        ({"over": ["batch=32,64"], "study": "mysql://x"}, "is neither sqlite:///FILE nor"),
        ({"over": ["batch=32,64"], "data": "nowhere"}, "there is no folder or file 'nowhere'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(values: dict[str, Any], message: str) -> None:
    with pytest.raises((UsageError, DataError), match=message):
        sweep.require(config(**values))


def test_how_trials_are_chosen() -> None:
    spec = sweep.spec_of(config(over=["learning_rate=0.01,0.1", "batch=32,64"], fixed=["epochs=2", "training.momentum=0.8"]))
    assert (spec.sampler, spec.trials, spec.direction) == ("grid", 4, "maximize")
    assert spec.settings == {"data": "digits", "epochs": 2, "training": {"momentum": 0.8}}
    assert sweep.spec_of(config(over=["learning_rate=1e-3..1e-1:log"])).sampler == "tpe"
    assert sweep.spec_of(config(over=["batch=32,64"], sampler="random", trials=7)).trials == 7
    told = sweep.plan(sweep.quote(config(over=["learning_rate=0.01,0.1", "batch=32,64"])))
    assert [line.split() for line in told.splitlines()][-6:-2] == [
        ["0", "0.01", "32"],
        ["1", "0.01", "64"],
        ["2", "0.1", "32"],
        ["3", "0.1", "64"],
    ]


def epochs_of(folder: str | None) -> int:
    path = Path(folder or ".") / "events.jsonl"
    return path.read_text().count('"kind": "epoch"') if folder and path.exists() else 0


def until(told: Callable[[], object], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 90
    while not told():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
def test_a_killed_worker_and_ctrl_c_cost_no_trial(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    environment = os.environ | {"PYTHONPATH": str(Path(convsmith.__file__).parents[1]), "CONVSMITH_RUNS": str(tmp_path)}
    environment["OMP_NUM_THREADS"] = "1"

    def begin(*words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "convsmith.cli", *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    fixed = [word for item in ("epochs=12", "threads=1", "training.checkpoint_s=0.3", "deterministic=true") for word in ("--fixed", item)]
    process = begin("sweep", "train", "digits", "--over", "batch=64,128", "--over", "learning_rate=0.01", *fixed, "--out", str(folder))
    until(lambda: (folder / "study.sqlite").exists() and (folder / "sweep.json").exists(), process)
    shared = sweeps.join(f"sqlite:///{folder / 'study.sqlite'}")
    until(lambda: any(epochs_of(trial.user_attrs.get("run")) >= 3 for trial in shared.trials()), process)
    first = shared.trials()[0]
    os.kill(first.user_attrs["worker"]["pid"], signal.SIGKILL)
    until(lambda: any("retry_of" in trial.user_attrs and "worker" in trial.user_attrs for trial in shared.trials()), process)
    again = next(trial for trial in shared.trials() if "retry_of" in trial.user_attrs)
    assert again.params == first.params and again.user_attrs["run"] == first.user_attrs["run"]
    until(lambda: '"kind": "resumed"' in (Path(first.user_attrs["run"]) / "events.jsonl").read_text(), process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and f"Go on with: convsmith resume {folder}" in err, (out, err)
    assert runs.open(folder).status == "interrupted" and shared.open_count() >= 1
    process = begin("resume", str(folder))
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0 and "* best: val_accuracy" in out, err
    found = sweeps.results(shared)
    assert [(row["trial"], row["state"]) for row in found.rows] == [(0, "finished"), (1, "finished")]
    trials = [runs.open(row["run"]) for row in found.rows]
    assert [run.name for run in trials] == ["sweep-t000", "sweep-t001"] and all(run.status == "finished" for run in trials)
    assert [run.read_json("training.json")["batch"] for run in trials] == [64, 128]
    assert len(runs.entries(tmp_path)) == 3 and runs.open(folder).summary["trials"] == 2
    page = (folder / "report.html").read_text()
    assert "2 finished (sampler: grid)" in page and 'aria-label="2 trials: their settings and val_accuracy' in page
    # as one that was never killed
    whole = begin("train", "digits", "--config", str(trials[0].folder / "config.yaml"), "--out", str(tmp_path / "whole"))
    assert whole.wait(timeout=60) == 0, whole.communicate()
    whole.communicate()
    assert (tmp_path / "whole" / "weights.safetensors").read_bytes() == (trials[0].folder / "weights.safetensors").read_bytes()
