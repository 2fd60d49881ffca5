"""The small process that starts one job's process, watches it, stops it when asked, and writes how it ended.

It is the parent, so it alone learns the signal that ended a job; it lives in a session of its own, so neither page, server nor worker takes
it along. When it is killed, the next keeper adopts the process by its pid and start. One keeper at a time holds the lock of the folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from convsmith.errors import ConvsmithError
from convsmith.queue import endings, job
from convsmith.runs import process

LOOK_S = 0.25
BEAT_S = 1.0
#: Seconds after which the next signal follows: a checkpoint of a large network takes a few.
PATIENCE_S = (20.0, 10.0)
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)


class Child:
    """A job's process, started here or found running."""

    def __init__(self, identity: Mapping[str, Any], own: subprocess.Popen[bytes] | None) -> None:
        self.identity, self.own = identity, own
        self.pid = int(identity["pid"])
        self.handle: int | None = None
        with contextlib.suppress(ProcessLookupError):
            self.handle = os.pidfd_open(self.pid)
        if own is None and not process.alive(identity):
            self.handle = None  # gone, and its number may be another's by now

    def wait(self, seconds: float) -> bool:
        """Wait until it ends, at most so long; tell whether it has ended."""
        return self.handle is None or bool(select.select([self.handle], [], [], seconds)[0])

    def send(self, number: signal.Signals) -> None:
        """Send a signal to exactly this process; SIGKILL goes to its whole session."""
        if self.handle is None:
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.handle, number)
            if number == signal.SIGKILL:
                kill_session(self.pid)

    def code(self) -> int | None:
        """Return how it ended, negative for a signal; None for one that was not started here. What it left running is ended too."""
        if self.own is None:
            return None
        kill_session(self.pid)  # not yet waited for, so the number is still its own
        return self.own.wait()


def kill_session(leader: int) -> None:
    """Kill every process of a session: what a job starts may have process groups of its own."""
    for place in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            fields = (place / "stat").read_text().rpartition(")")[2].split() if place.name.isdigit() else ["Z"]
            if fields[0] not in "ZX" and int(fields[3]) == leader:
                os.kill(int(place.name), signal.SIGKILL)


def keep(folder: Path, command: Sequence[str] | None = None, patience_s: Sequence[float] = PATIENCE_S) -> None:
    """Bring one job to its end. Nothing happens when it has ended, or when another keeper is at it."""
    _listen(folder)
    with _only(folder) as alone:
        if not alone or (folder / job.END).exists():
            return
        kills = endings.memory_kills()
        begun = job.read(folder / job.PROCESS)
        try:
            child = Child(begun["child"], None) if begun else start(folder, command or command_of(folder))
        except OSError as error:
            _until_written(folder, endings.Ending("failed", f"its process could not be started: {error.strerror}"), None)
            return
        began = (job.read(folder / job.PROCESS) or {}).get("clock") or process.boot_clock()
        if begun:
            job.write(folder / job.PROCESS, begun | {"keeper": process.identity()})
        sent = watch(folder, child, patience_s)
        code = child.code()
        ending = endings.explain(code, sent, job.read(folder / job.RESULT), endings.memory_kills() > kills)
        now = process.boot_clock()
        _until_written(folder, ending, now["s"] - began["s"] if now["boot"] == began["boot"] else None)


def command_of(folder: Path) -> list[str]:
    """Return the command of a job's process. ``-P``: a file in the folder it runs in must not stand in for a module."""
    return [sys.executable, "-P", "-m", "convsmith.cli.queued", str(folder)]


def start(folder: Path, command: Sequence[str]) -> Child:
    """Start the process in a session of its own and note who it is."""
    request, share = job.read(folder / job.REQUEST) or {}, job.read(folder / job.START) or {}
    environment = os.environ | {"CONVSMITH_RUNS": str(folder.parents[2])}
    if share.get("cores"):
        environment["OMP_NUM_THREADS"] = str(share["cores"])
    environment["CUDA_VISIBLE_DEVICES"] = ",".join(share.get("gpus", ()))
    with (folder / job.LOG).open("ab") as log:
        own = subprocess.Popen(
            command, cwd=request.get("cwd"), env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    child = Child(process.identity(own.pid), own)
    with contextlib.suppress(OSError):
        Path(f"/proc/{own.pid}/oom_score_adj").write_text("500")  # when memory runs out, a job goes before the server
    job.write(folder / job.PROCESS, {"keeper": process.identity(), "child": child.identity, "clock": process.boot_clock()})
    return child


def watch(folder: Path, child: Child, patience_s: Sequence[float]) -> list[str]:
    """Wait for the end, with a sign of life every second; return the signals sent because an abort was asked for."""
    sent: list[str] = []
    due, beat = 0.0, 0.0
    while not child.wait(LOOK_S):
        now = time.monotonic()
        if now >= beat:
            beat = now + BEAT_S
            with contextlib.suppress(OSError):  # a full disk must not end the watch
                job.write(folder / job.BEAT, {"clock": process.boot_clock()}, durable=False)
        if len(sent) < len(SIGNALS) and now >= due and (folder / job.ABORT).exists():
            number = SIGNALS[len(sent)]
            child.send(number)
            due = now + (*patience_s, 0.0)[len(sent)]
            sent.append(number.name)
    return sent


def _listen(folder: Path) -> None:
    """Take SIGTERM as meant for the job, and SIGINT and SIGHUP for neither.

    Handlers, not SIG_IGN: what is ignored stays ignored in the job, as it does for what a shell starts in the background.
    """
    signal.signal(signal.SIGTERM, lambda *_: (folder / job.ABORT).touch())
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)


@contextlib.contextmanager
def _only(folder: Path) -> Iterator[bool]:
    """Hold the folder's lock and tell whether it was free; the kernel lets it go with the process."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def _until_written(folder: Path, ending: endings.Ending, seconds: float | None, sleep: Callable[[float], None] = time.sleep) -> None:
    """Write the end, and tell the run of a death; on a full disk try again for an hour."""
    for _ in range(1800):
        try:
            if ending.status == "died":
                _tell_run(folder, ending)
            job.end(folder, ending.status, ending.message, seconds=seconds, code=ending.code, signal=ending.signal)
            return
        except ConvsmithError:
            sleep(2)


def _tell_run(folder: Path, ending: endings.Ending) -> None:
    """Leave a word in the run's own events: the run folder must tell without the queue why it stopped."""
    run = (job.read(folder / job.START) or {}).get("run")
    if run and (Path(run) / "run.json").exists():
        from convsmith import runs

        runs.attach(run).event("died", reason=ending.message, signal=ending.signal)


def main() -> None:
    keep(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
