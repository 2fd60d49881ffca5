"""The promises of the store: whole files, nothing lost, nothing overwritten."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from convsmith import runs
from convsmith.errors import DataError, ResourceError, UsageError
from convsmith.runs import files, naming, process, record


@pytest.fixture(autouse=True)
def _root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVSMITH_RUNS", str(tmp_path / "runs"))


def child(code: str, *arguments: str, **options: object) -> subprocess.Popen[str]:
    source = str(Path(runs.__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": source}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    )


def test_a_run_says_what_it_is(tmp_path: Path) -> None:
    made = runs.create(tmp_path / "a", "train", {"data": "digits", "training": {"epochs": 3}}, data="digits", command=["x"])
    made.event("epoch", epoch=1, loss=0.5)
    made.finish(top1=0.99)
    run = runs.open(tmp_path / "a")
    assert (run.verb, run.status, run.data, run.summary) == ("train", "finished", "digits", {"top1": 0.99})
    assert run.config == {"data": "digits", "training": {"epochs": 3}}
    assert [event["kind"] for event in run.events()] == ["start", "epoch", "end"]
    assert run.described["versions"]["convsmith"] and run.described["command"] == ["x"]
    assert yaml.safe_load((tmp_path / "a" / "config.yaml").read_text())["training"]["epochs"] == 3


def test_names_are_dated_readable_and_unique(tmp_path: Path) -> None:
    folders = [naming.new_folder(tmp_path, "forge", "Blumen & Gräser (neu)\n") for _ in range(3)]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d-\d{4}-forge-blumen-graser-neu", folders[0].name)
    assert len({folder.name for folder in folders}) == 3
    assert naming.slug("数据") == "data" and naming.slug("../..") == "data" and len(naming.slug("x" * 300)) == 40


def test_out_refuses_a_folder_that_is_not_empty(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(UsageError, match=r"mine is not empty; nothing in it was touched. Give a new or empty folder.$"):
        runs.create(tmp_path / "mine", "train", {})
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]
    runs.create(tmp_path / "run", "train", {}).finish()
    with pytest.raises(UsageError, match=r"To go on with the run in it: convsmith resume .*run"):
        runs.create(tmp_path / "run", "train", {})
    with pytest.raises(UsageError, match="is a file; give a folder"):
        runs.create(tmp_path / "mine" / "notes.txt", "train", {})


def test_two_writers_of_one_empty_folder_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    first = runs.create(tmp_path / "run", "train", {"writer": 1})
    monkeypatch.setattr(record, "_refuse_occupied", lambda path: None)
    with pytest.raises(UsageError, match="became another run meanwhile"):
        runs.create(tmp_path / "run", "train", {"writer": 2})
    assert runs.open(first.folder).config == {"writer": 1}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS])
def test_a_disk_that_refuses_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    made = runs.create(tmp_path / "a", "train", {})
    made.write_json("plan.json", {"old": True})

    def refuse(self: Path, content: bytes) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(ResourceError, match=r"cannot write .*plan\.json: (the disk|permission denied|the file system)"):
        made.write_json("plan.json", {"new": True})
    assert made.read_json("plan.json") == {"old": True}
    assert not list((tmp_path / "a").glob("*.part")) and not list((tmp_path / "a").glob(".*.part"))


def test_a_full_disk_while_a_run_is_made_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(ResourceError, match="the disk is full; free some space or choose another folder with --out"):
        runs.create(tmp_path / "a", "train", {})
    with pytest.raises(ResourceError, match="the disk is full"):
        runs.create(None, "train", {}, data="digits")
    assert not (tmp_path / "a").exists() and not list((tmp_path / "runs").iterdir())


def test_an_event_that_does_not_fit_is_not_half_there(tmp_path: Path) -> None:
    """A real limit of the kernel: no file of this process may pass 4 KiB."""
    code = """
import resource, sys
from pathlib import Path
from convsmith import runs
from convsmith.errors import ResourceError
made = runs.create(Path(sys.argv[1]), "train", {})
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    for step in range(1000):
        made.event("step", step=step, text="x" * 100)
except ResourceError as error:
    print(error)
try:
    made.write_json("big.json", "y" * 5000)
except ResourceError as error:
    print(error)
"""
    process = child(code, str(tmp_path / "a"))
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert output.count("larger than this process may write") + output.count("the disk is full") == 2
    content = (tmp_path / "a" / "events.jsonl").read_bytes()
    assert content.endswith(b"\n") and len(content) <= 4096
    steps = [event["step"] for event in runs.open(tmp_path / "a").events() if event["kind"] == "step"]
    assert steps == list(range(len(steps))) and len(steps) > 10
    assert not (tmp_path / "a" / "big.json").exists() and not list((tmp_path / "a").glob(".*"))


def test_a_killed_writer_leaves_a_run_that_reads_and_resumes(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from convsmith import runs
made = runs.create(Path(sys.argv[1]), "train", {"data": "digits"})
step = 0
while True:
    made.event("step", step=step)
    made.write_json("state.json", {"step": step, "filler": "z" * 5000})
    step += 1
    if step == 5:
        print("going", flush=True)
"""
    process = child(code, str(tmp_path / "a"))
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == "going\n", process.stderr.read()
    time.sleep(0.05)
    assert runs.open(tmp_path / "a").status == "running"
    with pytest.raises(UsageError, match=f"is being written by process {process.pid} on .*; stop that first"):
        runs.resume(tmp_path / "a")
    with pytest.raises(UsageError, match="stop that first"):
        runs.remove(tmp_path / "a")
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    process.stdout.close()
    process.stderr.close()
    run = runs.open(tmp_path / "a")
    assert run.status == "stopped"
    steps = [event["step"] for event in run.events() if event["kind"] == "step"]
    assert steps == list(range(len(steps)))
    assert run.read_json("state.json")["step"] >= 4 and run.config == {"data": "digits"}
    again = runs.resume(tmp_path / "a")
    assert runs.open(tmp_path / "a").status == "running"
    again.finish()
    assert [event["kind"] for event in runs.open(tmp_path / "a").events()][-2:] == ["resumed", "end"]


def test_a_half_written_line_spoils_only_itself(tmp_path: Path) -> None:
    made = runs.create(tmp_path / "a", "train", {})
    with (made.folder / "events.jsonl").open("ab") as lines:
        lines.write(b'{"time": "2026", "kind": "ep')
    assert [event["kind"] for event in runs.open(made.folder).events()] == ["start"]
    made.event("after")
    assert [event["kind"] for event in runs.open(made.folder).events()] == ["start", "after"]


def test_a_zombie_and_a_reused_number_are_no_living_writer() -> None:
    mine = process.identity()
    assert process.alive(mine)
    assert not process.alive(mine | {"started": "another boot:1"})
    finished = subprocess.Popen([sys.executable, "-c", "pass"])
    os.waitid(os.P_PID, finished.pid, os.WEXITED | os.WNOWAIT)
    assert not process.alive(process.identity(finished.pid) | {"started": None})
    finished.wait()
    assert process.alive(mine | {"host": "elsewhere"})


def test_a_run_of_another_version_is_refused_in_words(tmp_path: Path) -> None:
    made = runs.create(tmp_path / "a", "train", {})
    described = json.loads((made.folder / "run.json").read_text())
    (made.folder / "run.json").write_text(json.dumps(described | {"schema": 99, "versions": {"convsmith": "7.0"}}))
    with pytest.raises(UsageError, match=r"has run schema 99, written by convsmith 7\.0; this version reads schema 1"):
        runs.open(made.folder)
    (made.folder / "run.json").write_text("{")
    with pytest.raises(UsageError, match="is not valid JSON"):
        runs.open(made.folder)
    (made.folder / "run.json").write_text("{}")
    with pytest.raises(UsageError, match="has no run schema number"):
        runs.open(made.folder)
    (made.folder / "run.json").write_text('{"schema": 1}')
    with pytest.raises(UsageError, match="lacks created, process, status, verb"):
        runs.open(made.folder)
    with pytest.raises(UsageError, match=r"is not a run: it has no run\.json"):
        runs.open(tmp_path)


def test_json_is_strict(tmp_path: Path) -> None:
    value = {"nan": float("nan"), "array": np.arange(3, dtype=np.int8), "scalar": np.float32(0.5), "path": Path("x"), 3: (1, None, True)}
    files.write_json(tmp_path / "a.json", value)
    read = json.loads((tmp_path / "a.json").read_text())
    assert read == {
        "nan": None,
        "array": [0, 1, 2],
        "scalar": 0.5,
        "path": "x",
        "3": [1, None, True],
    }


def test_predictions_come_back(tmp_path: Path) -> None:
    made = runs.create(tmp_path / "a", "train", {})
    with pytest.raises(UsageError, match=r"has no predictions\.npz: the run did not come to its test \(running\)"):
        runs.open(made.folder).predictions()
    made.write_predictions([[0.1, 0.9], [0.8, 0.2]], [1, 1], ["ä b.png", "c\nd.png"])
    found = runs.open(made.folder).predictions()
    assert found.names == ("ä b.png", "c\nd.png") and found.correct.tolist() == [True, False]
    (made.folder / "predictions.npz").write_bytes(b"PK\x03\x04broken")
    with pytest.raises(DataError, match=r"predictions\.npz cannot be read"):
        runs.open(made.folder).predictions()


def test_finish_knows_its_ends(tmp_path: Path) -> None:
    made = runs.create(tmp_path / "a", "train", {})
    with pytest.raises(UsageError, match="a run ends as one of finished, failed, interrupted, not 'done'"):
        made.finish("done")
    made.finish("failed", error="no images")
    made.add(extra=1)
    assert (runs.open(made.folder).status, runs.open(made.folder).error) == ("failed", "no images")
    assert runs.open(made.folder).summary == {"extra": 1}


def test_progress_is_limited_but_never_loses_the_last_step() -> None:
    seen: list[runs.Progress] = []
    listener = runs.Unrecorded(seen.append)
    for step in range(1, 1001):
        listener.progress("train", step, 1000, loss=1.0)
    listener.progress("test", 1, 5)
    assert seen[0].done == 1 and seen[-2].done == 1000 and seen[-1].stage == "test" and len(seen) < 100
