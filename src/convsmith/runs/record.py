"""The writing side of a run: one folder that a person can read, move and, after a kill, resume.

Promises: a folder is a run when it has ``run.json``, which appears whole and only once; every file is replaced whole;
an event is on the disk when `Record.event` returns; one process at a time writes a run.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import yaml
from numpy.typing import ArrayLike

from convsmith import __version__
from convsmith.errors import UsageError
from convsmith.runs import files, index, naming, process, reader

SCHEMA = reader.SCHEMA
_VERSIONED = ("torch", "numpy", "onnx", "onnxruntime", "pillow")


@dataclass(frozen=True)
class Progress:
    """One step of a stage: ``done`` of ``total``, with what is worth showing beside it (loss, accuracy ...)."""

    stage: str
    done: float
    total: float
    fields: Mapping[str, Any] = field(default_factory=dict)


class Listener(Protocol):
    """What a job tells: events that last and progress that is shown. `Record` keeps them, `Unrecorded` only passes them on."""

    def event(self, kind: str, **fields: Any) -> None: ...

    def progress(self, stage: str, done: float, total: float, **fields: Any) -> None: ...


@dataclass
class Steady:
    """Pass progress on at most ten times a second, and always the first and the last of a stage."""

    show: Callable[[Progress], None] | None = None
    interval_s: float = 0.1
    _last: tuple[str, float] = ("", 0.0)

    def __call__(self, stage: str, done: float, total: float, fields: Mapping[str, Any]) -> None:
        now = time.monotonic()
        if self.show is None or (stage == self._last[0] and done < total and now - self._last[1] < self.interval_s):
            return
        self._last = (stage, now)
        self.show(Progress(stage, done, total, fields))


@dataclass
class Kept:
    """Append progress to ``progress.jsonl``: at most a line a second, later one in a 3,600th of the time gone, so that a file stays small.

    For whoever watches from another process; a line that cannot be written is left out, and nothing waits for the disk.
    """

    path: Path
    least_s: float = 1.0
    began: float = field(default_factory=time.monotonic)
    _last: tuple[str, float] = ("", 0.0)

    def __call__(self, stage: str, done: float, total: float, fields: Mapping[str, Any]) -> None:
        now = time.monotonic()
        pause_s = max(self.least_s, (now - self.began) / 3600)
        if stage == self._last[0] and done < total and now - self._last[1] < pause_s:
            return
        self._last = (stage, now)
        line = files.to_json({"time": _now(), "stage": stage, "done": done, "total": total} | dict(fields)) + "\n"
        with contextlib.suppress(OSError), self.path.open("a", encoding="utf-8") as file:
            file.write(line)


@dataclass
class Unrecorded:
    """A listener without a folder, for jobs that only look; events go to ``hear``."""

    show: Callable[[Progress], None] | None = None
    hear: Callable[[str, Mapping[str, Any]], None] | None = None

    def __post_init__(self) -> None:
        self._steady = Steady(self.show)

    def event(self, kind: str, **fields: Any) -> None:
        if self.hear:
            self.hear(kind, fields)

    def progress(self, stage: str, done: float, total: float, **fields: Any) -> None:
        self._steady(stage, done, total, fields)


class Record:
    """The writer of one run folder. Make one with `create` or `resume`, or `attach` to add files to a finished run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hear: Callable[[str, Mapping[str, Any]], None] | None = None
        self._steady = Steady()
        self._kept = Kept(folder / "progress.jsonl")

    @property
    def checkpoints(self) -> Path:
        """The folder of ``last.pt`` and ``best.pt``, made when first asked for."""
        path = self.folder / "checkpoints"
        with files.writing(path):
            path.mkdir(exist_ok=True)
        return path

    def show_progress(self, show: Callable[[Progress], None] | None) -> None:
        """Send progress to ``show`` from now on."""
        self._steady = Steady(show)

    def event(self, kind: str, **fields: Any) -> None:
        """Append ``{"time", "kind", ...}`` to events.jsonl as one line and sync it."""
        line = {"time": _now(), "kind": kind} | fields
        files.append_line(self.folder / "events.jsonl", files.to_json(line))
        if self.hear:
            self.hear(kind, fields)

    def progress(self, stage: str, done: float, total: float, **fields: Any) -> None:
        """Show that ``stage`` is at ``done`` of ``total``, and keep it now and then; cheap enough to call in every step."""
        self._steady(stage, done, total, fields)
        self._kept(stage, done, total, fields)

    def write_json(self, name: str, value: Any) -> Path:
        """Write a JSON file of the run atomically."""
        files.write_json(self.folder / name, value)
        return self.folder / name

    def read_json(self, name: str) -> Any:
        """Read a JSON file of the run; `UsageError` when this run has none of that name."""
        return reader.read_json(self.folder, name)

    def write_bytes(self, name: str, content: bytes) -> Path:
        """Write a file of the run atomically."""
        files.write_bytes(self.folder / name, content)
        return self.folder / name

    def write_predictions(self, logits: ArrayLike, labels: ArrayLike, names: Sequence[str]) -> Path:
        """Write predictions.npz: float32 logits ``(n, classes)``, int64 labels and the image names of the test split."""
        buffer = io.BytesIO()
        np.savez(buffer, logits=np.asarray(logits, np.float32), labels=np.asarray(labels, np.int64), names=np.asarray(names, np.str_))
        return self.write_bytes("predictions.npz", buffer.getvalue())

    def finish(self, status: str = "finished", **summary: Any) -> None:
        """Set the status, add to the summary and leave the run; ``error`` in the summary becomes the run's error.

        Raises: UsageError for a status that no run ends with.
        """
        if status not in reader.ENDS:
            raise UsageError(f"a run ends as one of {', '.join(reader.ENDS)}, not {status!r}")
        error = summary.pop("error", None)
        described = self.read_json("run.json")
        kept = described.get("summary", {}) | summary
        self.write_json("run.json", described | {"status": status, "finished": _now(), "error": error, "summary": kept})
        self.event("end", status=status, **({"error": error} if error else {}))
        index.note(self.folder)

    def add(self, **summary: Any) -> None:
        """Add to the summary of a run without a change of its status."""
        described = self.read_json("run.json")
        self.write_json("run.json", described | {"summary": described.get("summary", {}) | summary})
        index.note(self.folder)


def create(folder: str | Path | None, verb: str, config: Any, *, data: str = "", command: Sequence[str] | None = None) -> Record:
    """Make a run folder and return its writer; ``folder`` None gives it a name under `naming.root`.

    ``config``: a mapping or a pydantic model, kept as config.yaml. ``data``: the name of the data, for the folder's name and the list.
    Raises: UsageError when ``folder`` exists and is not empty; ResourceError when it cannot be written. Nothing is left behind then.
    """
    given = None if folder is None else Path(folder).expanduser()
    new = given is None or not given.exists()
    if given is None:
        path = naming.new_folder(naming.root(), verb, data)
    else:
        path = given
        _refuse_occupied(path)
        with files.writing(path):
            path.mkdir(parents=True, exist_ok=True)
    record = Record(path)
    try:
        _claim(path / "run.json", _describe(path, verb, data, command))
        try:
            record.write_bytes("config.yaml", yaml.safe_dump(files.plain(config), sort_keys=False, allow_unicode=True).encode())
            record.event("start", verb=verb, pid=os.getpid())
        except BaseException:
            for name in ("run.json", "config.yaml", "events.jsonl"):
                (path / name).unlink(missing_ok=True)
            raise
    except BaseException:
        if new and not any(path.iterdir()):
            path.rmdir()
        raise
    index.note(path)
    return record


def resume(folder: str | Path, *, command: Sequence[str] | None = None) -> Record:
    """Take over a run that ended, failed or was killed, and mark it running again.

    Raises: UsageError when the folder is no run, or when a living process writes it.
    """
    run = reader.open_run(folder)
    if run.status == "running":
        owner = run.described["process"]
        raise UsageError(
            f"{run.folder} is being written by process {owner['pid']} on {owner['host']}; stop that first (kill -INT {owner['pid']}), "
            "or wait until it ends"
        )
    record = Record(run.folder)
    changed = {"status": "running", "finished": None, "error": None, "process": process.identity()}
    record.write_json("run.json", dict(run.described) | changed | {"resumed": [*run.described.get("resumed", []), _now()]})
    record.event("resumed", pid=os.getpid(), command=list(sys.argv if command is None else command))
    index.note(run.folder)
    return record


def attach(folder: str | Path) -> Record:
    """Return a writer that adds files to an existing run and leaves its status alone."""
    return Record(reader.open_run(folder).folder)


def _describe(path: Path, verb: str, data: str, command: Sequence[str] | None) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "name": path.resolve().name,
        "verb": verb,
        "data": data,
        "status": "running",
        "created": _now(),
        "finished": None,
        "command": list(sys.argv if command is None else command),
        "process": process.identity(),
        "versions": _versions(),
        "error": None,
        "summary": {},
    }


def _claim(path: Path, described: Mapping[str, Any]) -> None:
    """Write run.json only when there is none: of two writers that chose the same folder one is told."""
    part = path.with_name(f".run.json.{os.getpid()}.{time.monotonic_ns()}.part")
    try:
        files.write_json(part, described)
        with files.writing(path):
            try:
                path.hardlink_to(part)
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK):
                    raise
                part.replace(path)  # a file system without hard links, such as exFAT
    except FileExistsError:
        raise UsageError(f"{path.parent} became another run meanwhile; give another --out, or none") from None
    finally:
        part.unlink(missing_ok=True)


def _refuse_occupied(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise UsageError(f"--out {path} is a file; give a folder that does not exist or is empty")
    with files.writing(path):
        occupied = path.is_dir() and any(path.iterdir())
    if occupied:
        hint = f" To go on with the run in it: convsmith resume {path}" if (path / "run.json").exists() else ""
        raise UsageError(f"--out {path} is not empty; nothing in it was touched. Give a new or empty folder.{hint}")


def _versions() -> dict[str, str]:
    found = {"convsmith": __version__, "python": platform.python_version(), "system": platform.platform(), "cores": str(os.cpu_count())}
    for name in _VERSIONED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
