"""The study: taken once by one of many processes, done again after a kill, the same for everybody who joins."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import convsmith
from convsmith import sweeps
from convsmith.errors import ResourceError, UsageError
from convsmith.sweeps import Spec, study

SPEC = Spec("train", {"data": "digits"}, ("a=1,2,3,4", "b=1,2,3,4"), "score", "maximize", "grid", 16, 0, False)

#: A worker whose trial is a sum of its values; it writes each one it finished.
WORKER = """
import sys, time
from convsmith import sweeps
shared = sweeps.join(sys.argv[1])
while (taken := shared.take()) is not None:
    time.sleep(float(sys.argv[2]))
    shared.tell(taken, 10.0 * taken.values["a"] + taken.values["b"])
    print(taken.number, flush=True)
"""


def worker(url: str, seconds: float = 0.0, code: str = WORKER) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(Path(convsmith.__file__).parents[1])}
    return subprocess.Popen([sys.executable, "-c", code, url, str(seconds)], env=environment, text=True, stdout=subprocess.PIPE)


def test_two_processes_share_a_study_without_doing_anything_twice(url: str) -> None:
    shared = sweeps.begin(url, "both", SPEC)
    workers = [worker(url), worker(url)]
    done = [[int(line) for line in process.communicate(timeout=60)[0].split()] for process in workers]
    assert sorted(done[0] + done[1]) == list(range(16))
    assert all(part for part in done), "both had work"
    found = sweeps.results(shared)
    assert [row["value"] for row in found.rows] == [10.0 * a + b for a in range(1, 5) for b in range(1, 5)]
    assert found.best == found.rows[15] and shared.done_count() == 16 and shared.open_count() == 0
    assert shared.take() is None
    # a dominates: its variance is 100 times that of b, 99 % of both
    assert list(found.importance) == ["a", "b"] and found.importance["a"] > 0.97


def test_a_trial_of_a_killed_worker_is_done_again(url: str) -> None:
    shared = sweeps.begin(url, "killed", dataclasses.replace(SPEC, over=("a=1,2", "b=7"), trials=2))
    for expected in (1, 2):
        process = worker(url, 60)
        while not any(trial.state.name == "RUNNING" for trial in shared.trials()):
            time.sleep(0.05)
        assert shared.reap() == []
        time.sleep(0.2)  # until it has noted who it is
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert len(shared.reap()) == 1 and shared.reap() == [] and shared.open_count() == 2, expected
    process = worker(url)
    process.communicate(timeout=30)
    found = sweeps.results(shared)
    assert [(row["trial"], row["state"], row["params"], row["value"]) for row in found.rows] == [
        (0, "finished", {"a": 1, "b": 7}, 17.0),
        (1, "finished", {"a": 2, "b": 7}, 27.0),
    ]
    assert shared.done_count() == 2


def dead(shared: Any) -> None:
    """Take a trial as a process that is gone."""
    taken = shared.take()
    shared.note(taken, worker={"host": study.process.identity()["host"], "pid": 1, "started": "another start of the machine:1"})


def test_a_trial_that_kills_its_workers_is_given_up(url: str) -> None:
    shared = sweeps.begin(url, "deadly", dataclasses.replace(SPEC, over=("a=1", "b=7"), trials=1))
    for _ in range(study.RETRIES + 1):
        dead(shared)
        assert len(shared.reap()) == 1
    (row,) = sweeps.results(shared).rows
    assert row["state"] == "failed" and row["error"] == "its worker was killed 3 times; perhaps memory ran out"
    assert shared.open_count() == 0 and sweeps.results(shared).best is None


def test_a_worker_asked_to_stop_may_do_so_any_number_of_times(url: str) -> None:
    shared = sweeps.begin(url, "patient", dataclasses.replace(SPEC, sampler="tpe", over=("a=0.0..1.0",), trials=1))
    values = set()
    for _ in range(2 * study.RETRIES):
        taken = shared.take()
        assert taken is not None
        values.add(taken.values["a"])
        shared.note(taken, run="/kept")
        shared.give_back(taken)
    taken = shared.take()
    assert taken is not None and {taken.values["a"]} == values and taken.attributes["run"] == "/kept"


def test_a_silent_worker_elsewhere_loses_its_trial_by_the_watchers_own_clock(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = sweeps.begin(url, "far", dataclasses.replace(SPEC, over=("a=1", "b=7"), trials=1))
    taken = shared.take()
    assert taken is not None
    shared.note(taken, worker={"host": "elsewhere", "pid": 1, "started": "x"})
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    assert shared.reap() == []
    for beat in (1, 2, 3):
        now += 50
        shared.note(taken, beat=beat)
        assert shared.reap() == []
    now += study.SILENT_S - 1
    assert shared.reap() == []
    now += 2
    assert shared.reap() == [0]
    from optuna.exceptions import UpdateFinishedTrialError

    with pytest.raises(UpdateFinishedTrialError):  # what it finds out when it comes back
        shared.tell(taken, 1.0)


def test_signs_of_life_are_given_while_a_trial_runs(url: str) -> None:
    shared = sweeps.begin(url, "alive", SPEC)
    taken = shared.take()
    assert taken is not None
    with shared.beating(taken, 0.02):
        while not shared.trials()[0].user_attrs.get("beat"):
            time.sleep(0.02)


def test_who_joins_gets_the_same_and_a_torn_beginning_is_made_up_for(url: str) -> None:
    sweeps.begin(url, "same", SPEC)
    assert sweeps.join(url).spec == SPEC and len(sweeps.begin(url, "same", SPEC).trials()) == 16
    with pytest.raises(UsageError, match=r"there is a study 'same' already, begun with other settings \(seed\); give another --name"):
        sweeps.begin(url, "same", dataclasses.replace(SPEC, seed=1))
    sweeps.begin(url, "other", SPEC)
    with pytest.raises(UsageError, match=r"there are 2 studies in (sqlite|postgresql).*; there are: same, other"):
        sweeps.join(url)
    with pytest.raises(UsageError, match=r"there is no study 'sam' in .* Did you mean 'same'"):
        sweeps.join(url, "sam")
    import optuna

    torn = optuna.create_study(storage=url, study_name="torn", direction="maximize")
    for point in SPEC.points()[:7]:
        torn.enqueue_trial(point)
    assert len(sweeps.begin(url, "torn", SPEC).trials()) == 16


def test_random_trials_are_known_beforehand_and_tpe_ones_differ(url: str) -> None:
    spec = dataclasses.replace(SPEC, sampler="random", over=("a=1e-4..1:log", "b=16..64:16"), trials=12)
    assert spec.points() == spec.points() != dataclasses.replace(spec, seed=1).points()
    assert spec.points()[:5] == dataclasses.replace(spec, trials=5).points()
    shared = sweeps.begin(url, "tpe", dataclasses.replace(spec, sampler="tpe"))
    seen = set()
    for _ in range(12):
        taken = sweeps.join(url, "tpe").take()  # as many workers as trials
        assert taken is not None
        seen.add(taken.values["a"])
        shared.tell(taken, -abs(taken.values["a"] - 0.01))
    assert len(seen) == 12


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("mysql://x/y", "is neither sqlite:///FILE nor postgresql://USER@HOST/DATABASE"),
        ("study.sqlite", "is neither sqlite:///FILE nor"),
        ("postgresql://me:secret@host/db", r"postgresql://me:\.\.\.@host/db holds a password, which a run folder would keep"),
        ("postgresql://me:se@cret@host/db", r"postgresql://me:\.\.\.@host/db holds a password"),
        ("postgresql://me@host/db?sslmode=require&password=secret", r"sslmode=require&password=\.\.\. holds a password, which"),
    ],
)
def test_addresses_that_are_not_served(address: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as found:
        sweeps.join(address)
    assert "secret" not in str(found.value)


def test_a_driver_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"needs a database driver: pip install 'psycopg\[binary\]', or psycopg2-binary"):
        sweeps.join("postgresql://me@127.0.0.1/none")
    with pytest.raises(UsageError, match="names a database driver that is not installed"):
        sweeps.join("postgresql+pg8000://me@127.0.0.1/none")


def test_a_database_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="cannot be opened"):
        sweeps.join(f"sqlite:///{tmp_path / 'no' / 'such' / 'folder.sqlite'}")
