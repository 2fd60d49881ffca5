"""Ctrl-C, SIGTERM and kill -9 in the middle of training: the run says so, and ends as if it had never stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import convsmith
from convsmith import jobs, runs

Call = Callable[..., tuple[int, str, str]]
SETTINGS = ["--epochs", "6", "--threads", "1", "--deterministic", "--set", "training.checkpoint_s=0.3"]


def begin(folder: Path) -> subprocess.Popen[str]:
    """Start a training in a process of its own and wait until it is in the middle of its updates."""
    environment = os.environ | {"PYTHONPATH": str(Path(convsmith.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "convsmith.cli", "train", "digits", *SETTINGS, "--out", str(folder)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for _ in range(600):
        time.sleep(0.05)
        if process.poll() is not None:
            raise AssertionError(process.communicate())
        if (folder / "events.jsonl").exists() and '"kind": "epoch"' in (folder / "events.jsonl").read_text():
            return process
    process.kill()
    raise AssertionError("no epoch in 30 seconds")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("whole") / "run"
    config = {"data": "digits", "epochs": 6, "threads": 1, "deterministic": True, "training": {"checkpoint_s": 0.3}}
    jobs.perform("train", config, out=folder)
    return (folder / "weights.safetensors").read_bytes()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_training_resumes_to_the_same_weights(call: Call, uninterrupted: bytes, tmp_path: Path, sent: signal.Signals) -> None:
    folder = tmp_path / "run"
    process = begin(folder)
    process.send_signal(sent)
    out, err = process.communicate(timeout=60)
    run = runs.open(folder)
    if sent is signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL and run.status == "stopped"
    else:
        assert process.returncode == 130 and run.status == "interrupted" and out == ""
        assert f"interrupted\nGo on with: convsmith resume {folder}\n" in err and "Traceback" not in err
    assert not run.has("weights.safetensors")
    code, _, err = call("eval", folder)
    assert code == 2 and f"`convsmith resume {folder}` goes on with it" in err
    code, out, err = call("resume", folder)
    assert code == 0 and "test accuracy" in out, err
    assert runs.open(folder).status == "finished"
    assert (folder / "weights.safetensors").read_bytes() == uninterrupted
    code, _, err = call("resume", folder)
    assert code == 2 and "is finished; there is nothing to resume" in err


def test_a_run_stopped_before_its_first_update_starts_over(call: Call, tmp_path: Path) -> None:
    made = runs.create(tmp_path / "run", "train", {"data": "digits", "epochs": 1, "threads": 1}, data="digits")
    made.finish("interrupted")
    code, out, _ = call("resume", tmp_path / "run")
    assert code == 0 and "test accuracy" in out


def test_what_cannot_be_resumed(call: Call, tmp_path: Path) -> None:
    runs.create(tmp_path / "run", "check", {"data": "digits"}).finish("interrupted")
    code, _, err = call("resume", tmp_path / "run")
    assert code == 2 and "is a run of `check`, which cannot be resumed; start it again" in err


def test_changed_images_are_not_resumed(call: Call, tmp_path: Path, write_images: Callable[..., Path]) -> None:
    folder = write_images(tmp_path / "data", {"a": 15, "b": 15})
    assert call("train", folder, "--epochs", 1, "--threads", 1, "--out", tmp_path / "run")[0] == 0
    record = runs.attach(tmp_path / "run")
    record.finish("interrupted")
    (folder / "a" / "0.png").unlink()
    code, _, err = call("resume", tmp_path / "run")
    assert code == 3 and "is not what this run was made with" in err and runs.open(tmp_path / "run").status == "failed"
