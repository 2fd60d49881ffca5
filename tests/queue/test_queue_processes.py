"""Jobs as processes: they outlive keepers and workers, are started once, stop when asked, and how each ended is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from waiting import begin, begun, environment, keeper, put, until

from convsmith import queue, runs
from convsmith.errors import UsageError
from convsmith.queue import endings, job
from convsmith.queue.resources import Machine
from convsmith.queue.worker import Worker
from convsmith.runs import process

#: Ends when the file ``go`` is there.
WAIT = (
    "import sys, time, pathlib; f = pathlib.Path(sys.argv[1]); print('begun', flush=True)\nwhile not (f / 'go').exists(): time.sleep(0.02)"
)
DEAF = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"


def ended(folder: Path, code: str, patience: str = "(20.0, 10.0)") -> job.Job:
    assert begin(keeper(code, patience)(folder)).wait(timeout=30) == 0
    return job.from_folder(folder)


def speaking(folder: Path) -> dict[str, object]:
    until(lambda: (folder / job.PROCESS).exists() and "begun" in (folder / job.LOG).read_text())
    return job.read(folder / job.PROCESS) or {}


@pytest.mark.parametrize(
    ("code", "status", "message"),
    [
        ("print('done')", "finished", ""),
        ("import sys; sys.exit(5)", "failed", "it ended with exit code 5 and without a word; see its log"),
        ("import os; os.kill(os.getpid(), 9)", "died", "killed by SIGKILL, not sent from here: `kill -9`, or memory ran out"),
        ("import os; os.kill(os.getpid(), 11)", "died", "killed by SIGSEGV (a fault of native code); it can be resumed"),
        ("import os; os.kill(os.getpid(), 15)", "died", "killed by SIGTERM (sent from outside)"),
    ],
)
def test_how_a_job_ended_is_told(tmp_path: Path, code: str, status: str, message: str) -> None:
    found = ended(put(tmp_path), code)
    assert found.status == status and found.message.startswith(message)
    assert found.seconds is not None and 0 < found.seconds < 30 and found.silent_s is None
    assert queue.jobs(root=tmp_path) == [found]  # no worker is needed to see it


def test_the_run_itself_tells_of_a_death(tmp_path: Path) -> None:
    folder = put(tmp_path)
    runs.create(tmp_path / "mine", "train", {"data": "digits"})
    job.write(folder / job.START, {"run": str(tmp_path / "mine"), "cores": 1, "gpus": []})
    ended(folder, "import os; os.kill(os.getpid(), 9)")
    last = [*runs.open(tmp_path / "mine").events()][-1]
    assert last["kind"] == "died" and last["signal"] == "SIGKILL" and "memory ran out" in last["reason"]


def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    folder = put(tmp_path)
    request = job.read(folder / job.REQUEST) or {}
    job.write(folder / job.REQUEST, request | {"cwd": str(tmp_path / "gone")})
    found = ended(folder, "print('x')")
    assert (found.status, found.message) == ("failed", "its process could not be started: No such file or directory")


def test_memory_that_ran_out_is_named() -> None:
    told = endings.explain(-9, [], None, killed_for_memory=True)
    assert told.status == "died" and told.signal == "SIGKILL"
    assert told.message.startswith("the kernel killed it because memory ran out (out-of-memory killer): use a smaller batch")
    error = {"error": {"kind": "ResourceError", "message": "the memory ran out; use a smaller batch", "exit_code": 4}}
    assert endings.explain(4, [], error, False) == endings.Ending("failed", "the memory ran out; use a smaller batch", 4)
    assert endings.explain(130, [], {"error": {"kind": "Interrupted"}}, False).status == "aborted"
    assert endings.explain(0, ["SIGINT"], {}, False).status == "finished"  # the abort came too late
    assert endings.memory_kills() >= 0


def test_an_abort_interrupts_then_terminates_then_kills(tmp_path: Path) -> None:
    folder = begun(tmp_path)
    keeping = begin(keeper(WAIT, "(20.0, 10.0)")(folder))
    speaking(folder)
    assert queue.jobs(root=tmp_path)[0].status == "running"
    queue.abort(1, root=tmp_path)
    keeping.wait(timeout=10)
    found = queue.get(1, root=tmp_path)
    assert found.status == "aborted" and found.message.startswith("ended by SIGINT on request, after SIGINT;")
    folder = begun(tmp_path)
    keeping = begin(keeper(DEAF + WAIT, "(0.2, 0.2)")(folder))
    child = speaking(folder)["child"]
    assert queue.abort(2, root=tmp_path).status == "stopping"
    keeping.wait(timeout=10)
    assert queue.get(2, root=tmp_path).message.startswith("ended by SIGKILL on request, after SIGINT, SIGTERM, SIGKILL;")
    assert isinstance(child, dict) and not process.alive(child)


def test_what_a_job_started_ends_with_it(tmp_path: Path) -> None:
    code = "import subprocess, sys; print(subprocess.Popen(['sleep', '60']).pid, flush=True)"
    folder = put(tmp_path)
    ended(folder, code)
    pid = int((folder / job.LOG).read_text())
    until(lambda: process.identity(pid)["started"] is None)


def test_a_second_keeper_leaves_and_one_after_a_kill_adopts(tmp_path: Path) -> None:
    folder = put(tmp_path)
    first = begin(keeper(WAIT)(folder))
    child = speaking(folder)["child"]
    assert begin(keeper("raise SystemExit('started twice')")(folder)).wait(timeout=10) == 0
    assert not (folder / job.END).exists()
    first.kill()
    first.wait()
    assert isinstance(child, dict) and process.alive(child)
    second = begin(keeper("raise SystemExit('started twice')")(folder))
    until(lambda: (job.read(folder / job.PROCESS) or {})["keeper"]["pid"] == second.pid)
    job.write(folder / job.RESULT, {"result": {}})
    (folder / "go").touch()
    second.wait(timeout=10)
    assert job.from_folder(folder).status == "finished" and (folder / job.LOG).read_text() == "begun\n"


def test_an_adopted_job_that_says_nothing_died(tmp_path: Path) -> None:
    folder = put(tmp_path)
    first = begin(keeper(WAIT)(folder))
    child = speaking(folder)["child"]
    first.kill()
    first.wait()
    assert isinstance(child, dict)
    os.kill(child["pid"], signal.SIGKILL)
    found = ended(folder, "print('x')")
    assert found.status == "died" and found.message.startswith("it ended while nobody watched")


def test_a_clock_that_jumps_changes_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = put(tmp_path)
    keeping = begin(keeper(WAIT)(folder))
    speaking(folder)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    until(lambda: (queue.get(1, root=tmp_path).silent_s or 9) < 5 and (queue.get(1, root=tmp_path).seconds or 0) > 0)
    assert (queue.get(1, root=tmp_path).seconds or 99) < 30
    noted = job.read(folder / job.PROCESS) or {}
    job.write(folder / job.PROCESS, noted | {"clock": {"boot": "another start of the machine", "s": 1e9}})
    assert queue.get(1, root=tmp_path).seconds is None
    (folder / "go").touch()
    keeping.wait(timeout=10)
    assert queue.get(1, root=tmp_path).status == "finished"


def test_ten_jobs_outlive_two_killed_workers_and_run_once_each(tmp_path: Path) -> None:
    folders = [put(tmp_path) for _ in range(12)]
    code = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from waiting import keeper
from convsmith.queue.resources import Machine
from convsmith.queue.worker import Worker
Worker(Path(sys.argv[1]), Machine(10), keeper=keeper({WAIT!r})).serve(0.0)
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    worker = begin(command)
    until(lambda: (tmp_path / ".queue" / "worker.json").exists() and queue.worker_alive(tmp_path))
    assert not queue.ensure_worker(tmp_path)
    until(lambda: [found.status for found in queue.jobs(root=tmp_path)].count("running") >= 5)  # in the middle of starting
    worker.kill()
    worker.wait()
    worker = begin(command)
    until(lambda: [found.status for found in queue.jobs(root=tmp_path)] == ["running"] * 10 + ["queued"] * 2, 30)
    until(lambda: queue.worker_alive(tmp_path))
    with pytest.raises(UsageError, match="another worker serves the queue"):
        Worker(tmp_path).serve(0.0)
    worker.kill()
    worker.wait()
    assert not queue.worker_alive(tmp_path)
    for folder in folders:
        (folder / "go").touch()
    until(lambda: [found.status for found in queue.jobs(root=tmp_path)].count("finished") == 10)
    assert begin(command).wait(timeout=30) == 0  # the last worker starts the two that waited, and ends when all have
    assert [found.status for found in queue.jobs(root=tmp_path)] == ["finished"] * 12
    assert [(folder / job.LOG).read_text() for folder in folders] == ["begun\n"] * 12


def test_a_keeper_that_cannot_live_gives_the_job_up(tmp_path: Path) -> None:
    put(tmp_path)
    told: list[str] = []
    worker = Worker(tmp_path, Machine(1), hear=told.append, keeper=lambda _: [sys.executable, "-c", "raise SystemExit('no')"])
    until(lambda: worker.step() == 0)
    assert queue.get(1, root=tmp_path).message == "its keeper was started 3 times and ended each time; see its log"
    assert told[0] == "job 1 starts on 1 of 1 processors"


def command_line(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environ = environment() | {"CONVSMITH_RUNS": str(root), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "convsmith.cli", *words], env=environ, capture_output=True, text=True, check=False, cwd=root
    )


@pytest.mark.slow
def test_a_training_is_queued_aborted_and_resumed_from_the_command_line(tmp_path: Path) -> None:
    added = command_line(
        tmp_path, "queue", "add", "train", "digits", "--epochs", "4000", "--threads", "1", "--set", "training.checkpoint_s=1"
    )
    assert added.returncode == 0 and added.stdout.startswith("job 1: convsmith train digits --epochs 4000"), added.stderr
    until(lambda: (queue.get(1, root=tmp_path).progress or {}).get("stage") == "train", 60)
    run = queue.get(1, root=tmp_path).run
    assert run is not None and run.parent == tmp_path and runs.open(run).status == "running"
    listed = command_line(tmp_path, "queue", "list")
    assert "train  digits  running" in listed.stdout and run.name in listed.stdout
    assert command_line(tmp_path, "queue", "abort", "1").stdout == "job 1 is stopping\n"
    until(lambda: not queue.get(1, root=tmp_path).active, 30)
    found = queue.get(1, root=tmp_path)
    assert found.status == "aborted" and found.message == "stopped on request (SIGINT); its state was saved, so it can be resumed"
    assert runs.open(run).status == "interrupted" and f"convsmith resume {run}" in found.log.read_text()
    again = command_line(tmp_path, "queue", "resume", "last")
    assert again.returncode == 0 and again.stdout.startswith("job 2 is "), again.stderr
    until(lambda: runs.open(run).status == "running" and queue.get(2, root=tmp_path).progress, 60)
    queue.abort(2, root=tmp_path)
    until(lambda: not queue.get(2, root=tmp_path).active, 30)
    assert any(event["kind"] == "resumed" for event in runs.open(run).events())
    queue.submit("check", {"data": "digits"}, root=tmp_path)
    queue.submit("check", {"data": str(tmp_path / "nothing")}, root=tmp_path)
    until(lambda: all(not found.active for found in queue.jobs(root=tmp_path)), 60)
    checked, missing = queue.get(3, root=tmp_path), queue.get(4, root=tmp_path)
    assert checked.status == "finished" and checked.result is not None and checked.result["result"]["images"]
    assert missing.status == "failed" and missing.message.startswith(f"there is no {str(tmp_path / 'nothing')!r}")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["add"], "error: no verb given; for example: convsmith queue add train digits"),
        (["add", "trian", "x"], "there is no verb 'trian'"),
        (["add", "train", "digits", "--epochs", "-1"], "error: epochs: should be greater than 0, got -1"),
        (["abort", "9"], "error: there is no job 9"),
        (["resume", "nothing"], "error: there is no run 'nothing'"),
    ],
)
def test_the_command_line_says_what_is_wrong(tmp_path: Path, words: list[str], message: str) -> None:
    found = command_line(tmp_path, "queue", *words)
    assert found.returncode == 2 and message in found.stderr and "Traceback" not in found.stderr
