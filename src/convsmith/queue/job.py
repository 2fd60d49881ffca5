"""A job as its folder tells it: what was asked, where it is, how it ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from convsmith.errors import UsageError
from convsmith.runs import files, process

#: Where the queue of a runs folder lives; hidden, so that no list of runs shows it.
PLACE = ".queue"

REQUEST, START, PROCESS, BEAT, ABORT = "job.json", "start.json", "process.json", "beat.json", "abort"
PROGRESS, RESULT, END, LOG = "progress.json", "result.json", "end.json", "log.txt"

#: ``stopping``: an abort was asked for and the process still runs. ``died``: a signal ended it that nobody here sent.
ACTIVE = ("queued", "starting", "running", "stopping")
ENDS = ("finished", "failed", "aborted", "died")


@dataclass(frozen=True)
class Job:
    """One job of the queue.

    ``arguments``: the settings, as a file of settings would hold them. ``run``: the run folder it writes, known once it starts.
    ``seconds``: how long it has run. ``silent_s``: since its keeper's last sign of life, which comes every second.
    ``message``: why it waits or how it ended. ``cores``: processors it takes; 0 is all.
    """

    id: int
    verb: str
    arguments: Mapping[str, Any]
    status: str
    folder: Path
    run: Path | None
    priority: int
    cores: int
    gpus: int
    submitted: str
    ended: str | None = None
    seconds: float | None = None
    silent_s: float | None = None
    message: str = ""

    @property
    def active(self) -> bool:
        return self.status in ACTIVE

    @property
    def progress(self) -> Mapping[str, Any] | None:
        """Stage, done and total of what the job told last; None before the first word."""
        return read(self.folder / PROGRESS)

    @property
    def result(self) -> Mapping[str, Any] | None:
        """What the verb returned, or ``{"error": {"kind", "message", "exit_code"}}``; None while it runs or when it died."""
        return read(self.folder / RESULT)

    @property
    def log(self) -> Path:
        return self.folder / LOG


def place(root: Path) -> Path:
    return root / PLACE


def folder_of(root: Path, number: int) -> Path:
    return place(root) / "jobs" / f"{number:06d}"


def read(path: Path) -> dict[str, Any] | None:
    """Return a JSON file of a job, None when it is not there yet or cannot be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def write(path: Path, value: Any, *, durable: bool = True) -> None:
    """Write a JSON file of a job whole; what only shows progress need not reach the disk at once."""
    if durable:
        files.write_json(path, value)
        return
    part = path.with_name(f".{path.name}.part")
    part.write_text(files.to_json(value), encoding="utf-8")
    part.replace(path)


def end(folder: Path, status: str, message: str, *, seconds: float | None, code: int | None = None, signal: str | None = None) -> None:
    """Write how a job ended. ``code``: the exit code; ``signal``: the name of the signal that ended it."""
    found = {"status": status, "message": message, "seconds": seconds, "exit": code, "signal": signal, "ended": now()}
    write(folder / END, found)


def now() -> str:
    """Return the wall clock as text, to be shown and never compared."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def from_folder(folder: Path) -> Job:
    """Return a job from its folder alone.

    Raises: UsageError when the folder holds no request.
    """
    request = read(folder / REQUEST)
    if request is None:
        raise UsageError(f"{folder} is not a job: it has no readable {REQUEST}")
    start, begun, end = read(folder / START) or {}, read(folder / PROCESS), read(folder / END)
    run = start.get("run") or request.get("run")
    return Job(
        id=int(folder.name),
        verb=request["verb"],
        arguments=request["arguments"],
        status=_status(folder, start, begun, end),
        folder=folder,
        run=Path(run) if run else None,
        priority=int(request["priority"]),
        cores=int(request["cores"]),
        gpus=int(request["gpus"]),
        submitted=request["submitted"],
        ended=end["ended"] if end else None,
        seconds=end["seconds"] if end else _elapsed(begun),
        silent_s=None if end else _elapsed(read(folder / BEAT)),
        message=end["message"] if end else "",
    )


def _status(folder: Path, start: Mapping[str, Any], begun: Mapping[str, Any] | None, end: Mapping[str, Any] | None) -> str:
    if end:
        return str(end["status"])
    if (folder / ABORT).exists():
        return "stopping"
    if begun:
        return "running"
    return "starting" if start else "queued"


def _elapsed(noted: Mapping[str, Any] | None) -> float | None:
    """Return the seconds since a noted `process.boot_clock`; None after another start of the machine."""
    if not noted:
        return None
    now = process.boot_clock()
    return max(0.0, now["s"] - noted["clock"]["s"]) if noted["clock"]["boot"] == now["boot"] else None
