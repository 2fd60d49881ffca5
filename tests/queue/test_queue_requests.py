"""The queue as a page sees it: what is asked is checked, kept, ordered, and found again when the table is lost."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

import pytest
from waiting import put

from convsmith import queue, runs
from convsmith.errors import ResourceError, UsageError
from convsmith.queue import job, resources, store
from convsmith.queue.resources import Asked, Machine, Share, choose
from convsmith.queue.store import Row


def numbers(root: Path) -> list[int]:
    return [found.id for found in queue.jobs(root=root)]


def test_a_job_is_kept_as_it_was_asked(tmp_path: Path) -> None:
    assert queue.jobs(root=tmp_path / "none") == []
    number = queue.submit("train", {"data": "digits", "training": {"momentum": 0.8}, "threads": 1}, root=tmp_path, priority=3)
    (found,) = queue.jobs(root=tmp_path)
    assert found == queue.get(number, root=tmp_path) and found.active
    assert (found.id, found.verb, found.status, found.priority, found.cores, found.gpus) == (1, "train", "queued", 3, 1, 0)
    assert found.arguments == {"data": "digits", "training": {"momentum": 0.8}, "threads": 1}
    assert found.run is None and found.seconds is None and found.result is None and found.progress is None
    assert json.loads((tmp_path / ".queue" / "jobs" / "000001" / "job.json").read_text())["cwd"] == str(Path.cwd())
    assert runs.entries(tmp_path) == []


@pytest.mark.parametrize(
    ("verb", "arguments", "message"),
    [
        ("trian", {}, "there is no verb 'trian'; .* Did you mean 'train'"),
        ("train", {}, "DATA is missing: "),
        ("train", {"data": "digits", "epoch": 3}, "there is no setting epoch. Did you mean 'epochs'"),
        ("train", {"data": "digits", "epochs": -1}, "epochs: should be greater than 0, got -1"),
        ("eval", {"run": "nothing"}, "there is no run 'nothing'"),
    ],
)
def test_what_cannot_be_is_refused_before_it_waits(tmp_path: Path, verb: str, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        queue.submit(verb, arguments, root=tmp_path)
    assert queue.jobs(root=tmp_path) == []


def test_more_than_there_is_cannot_be_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "machine", lambda: Machine(2))
    with pytest.raises(UsageError, match="1 to 2 processors of this machine, or 0 for all; 3 were asked for"):
        put(tmp_path, cores=3)
    with pytest.raises(UsageError, match="up to 0 GPUs of this machine; 1 were asked for"):
        put(tmp_path, gpus=1)
    with pytest.raises(UsageError, match="a run folder to make was given, and `convsmith check` makes none"):
        put(tmp_path, out=tmp_path / "run")


def test_order_is_priority_then_age_whatever_the_clock_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for year, priority in ((2026, 0), (2031, 5), (1970, 5), (2026, -1)):
        monkeypatch.setattr(job, "now", lambda year=year: f"{year}-01-01T00:00:00+00:00")
        put(tmp_path, priority=priority)
    assert numbers(tmp_path) == [2, 3, 1, 4]
    assert queue.prioritise(4, 9, root=tmp_path).priority == 9
    assert numbers(tmp_path) == [4, 2, 3, 1]
    queue.abort(2, root=tmp_path)
    assert numbers(tmp_path) == [4, 3, 1, 2]
    with pytest.raises(UsageError, match="job 2 is aborted; only a waiting job can be moved"):
        queue.prioritise(2, 1, root=tmp_path)


def test_a_waiting_job_is_taken_out(tmp_path: Path) -> None:
    put(tmp_path)
    found = queue.abort(1, root=tmp_path)
    assert (found.status, found.message, found.active) == ("aborted", "taken out of the queue before it began", False)
    assert queue.abort(1, root=tmp_path) == found  # two tabs
    with pytest.raises(UsageError, match="there is no job 7; `convsmith queue list --all` shows the jobs there are"):
        queue.abort(7, root=tmp_path)


@pytest.mark.parametrize("damage", ["gone", "empty", "garbage", "torn", "another version"])
def test_a_lost_table_is_made_again_from_the_folders(tmp_path: Path, damage: str) -> None:
    for priority in (0, 2, 1):
        put(tmp_path, priority=priority)
    ended = put(tmp_path)
    job.end(ended, "failed", "it was so", seconds=1.5, code=2)
    (tmp_path / ".queue" / "jobs" / "000009").mkdir()  # a request that was never written
    before = queue.jobs(root=tmp_path)
    table = tmp_path / ".queue" / "queue.sqlite"
    content = table.read_bytes()
    if damage == "gone":
        table.unlink()
    elif damage == "another version":
        connection = sqlite3.connect(table)
        connection.execute("PRAGMA user_version = 99")
        connection.close()
    else:
        table.write_bytes({"empty": b"", "garbage": b"x" * 5000, "torn": content[:100] + b"\0" * 900}[damage])
    assert queue.jobs(root=tmp_path) == before
    assert [found.status for found in before] == ["queued"] * 3 + ["failed"] and before[-1].message == "it was so"
    assert put(tmp_path).name > "000004"


def test_a_number_is_not_given_twice(tmp_path: Path) -> None:
    assert [put(tmp_path).name for _ in range(3)] == ["000001", "000002", "000003"]


def asked(number: int, cores: int, gpus: int = 0, priority: int = 0, overtaken: int = 0) -> Asked:
    return Asked(Row(number, "queued", priority, overtaken), cores, gpus)


def started(chosen: list[tuple[Asked, Share]]) -> dict[int, tuple[int, tuple[str, ...]]]:
    return {one.row.id: (share.cores, share.gpus) for one, share in chosen}


def test_what_fits_starts() -> None:
    has = Machine(4, ("0", "1"))
    chosen, overtaken = choose([asked(1, 2), asked(2, 3), asked(3, 1, gpus=1), asked(4, 1, gpus=1)], [Share(0, ("0",))], has)
    assert started(chosen) == {1: (2, ()), 3: (1, ("1",))} and [one.row.id for one in overtaken] == [2]
    assert started(choose([asked(1, 0)], [], has)[0]) == {1: (4, ())}  # all
    assert started(choose([asked(1, 0)], [Share(1)], has)[0]) == {}
    assert started(choose([asked(1, 64, gpus=9)], [], has)[0]) == {1: (4, ("0", "1"))}  # submitted where more was there


def test_a_large_job_is_not_overtaken_for_ever() -> None:
    has, held = Machine(2), [Share(1)]
    line = [asked(1, 2, overtaken=resources.PATIENCE), asked(2, 1)]
    assert choose(line, held, has) == ([], [])
    line = [asked(1, 2, overtaken=resources.PATIENCE - 1), asked(2, 1)]
    chosen, overtaken = choose(line, held, has)
    assert started(chosen) == {2: (1, ())} and [one.row.id for one in overtaken] == [1]
    assert choose(line[:1], held, has) == ([], [])  # waiting alone is not being overtaken


def test_settings_say_what_a_job_takes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(resources, "machine", lambda: Machine(2, ("0",)))
    for arguments, takes in (({}, (0, 1)), ({"threads": 1, "device": "cpu"}, (1, 0)), ({"threads": 64, "device": "cuda"}, (2, 1))):
        found = queue.get(queue.submit("train", {"data": "digits", **arguments}, root=tmp_path), root=tmp_path)
        assert (found.cores, found.gpus) == takes
    assert queue.get(queue.submit("check", {"data": "digits"}, root=tmp_path), root=tmp_path).cores == 1


def test_gpus_are_those_that_may_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-5f")
    assert queue.machine() == Machine(len(os.sched_getaffinity(0)), ("3", "GPU-5f"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert queue.machine().gpus == ()


def test_resume_wants_a_run_that_can_go_on(tmp_path: Path) -> None:
    record = runs.create(tmp_path / "mine", "train", {"data": "digits", "threads": 1}, data="digits")
    record.finish("interrupted")
    number = queue.resume("mine", root=tmp_path)
    found = queue.get(number, root=tmp_path)
    assert (found.verb, found.run, found.cores) == ("resume", tmp_path / "mine", 1)
    with pytest.raises(UsageError, match=r"job 1 is at work on .*mine \(queued\); wait for it, or abort it"):
        queue.resume("mine", root=tmp_path)
    queue.abort(number, root=tmp_path)
    record.finish("finished")
    with pytest.raises(UsageError, match="mine is finished; there is nothing to resume"):
        queue.resume("mine", root=tmp_path)


def test_jobs_are_listed_where_the_table_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for priority in (0, 2, 1):
        put(tmp_path, priority=priority)
    job.end(put(tmp_path), "failed", "it was so", seconds=1.5, code=2)
    with store.table(tmp_path) as table:
        store.settle(table, job.from_folder(job.folder_of(tmp_path, 4)))
    before = queue.jobs(root=tmp_path)

    def full(root: Path, *, suspect: bool = False) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(store, "make_sound", full)
    assert queue.jobs(root=tmp_path) == before and [found.id for found in before] == [2, 3, 1, 4]
    with pytest.raises(ResourceError, match="cannot be used: database or disk is full; try again"):
        queue.get(1, root=tmp_path)
