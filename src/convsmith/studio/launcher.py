"""The plainest queue: every job starts at once, as a process of its own whose folder tells what became of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from convsmith.errors import UsageError
from convsmith.jobs.configuration import command, validate
from convsmith.jobs.verbs import find
from convsmith.runs import files, naming, process


@dataclass(frozen=True)
class Launched:
    """A job that was started. ``told``: what was noted at its start."""

    folder: Path
    told: Mapping[str, Any]
    progress: None = None

    @property
    def id(self) -> int:
        return int(self.folder.name)

    @property
    def verb(self) -> str:
        return str(self.told["verb"])

    @property
    def arguments(self) -> Mapping[str, Any]:
        return dict(self.told["arguments"])

    @property
    def run(self) -> Path | None:
        return Path(self.told["run"]) if self.told["run"] else None

    @property
    def submitted(self) -> str:
        return str(self.told["submitted"])

    @property
    def seconds(self) -> float | None:
        return (datetime.now(UTC) - datetime.fromisoformat(self.submitted)).total_seconds() if self.active else None

    @property
    def active(self) -> bool:
        return process.alive(self.told["process"])

    @property
    def status(self) -> str:
        if self.active:
            return "running"
        if (self.folder / "abort").exists():
            return "aborted"
        result = self.result
        return "died" if result is None else "failed" if "error" in result else "finished"

    @property
    def message(self) -> str:
        if self.status == "died":
            return "the process ended without a word: it was killed, or the machine went down"
        return str(((self.result or {}).get("error") or {}).get("message", ""))

    @property
    def result(self) -> Mapping[str, Any] | None:
        try:
            document = json.loads((self.folder / "result.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return {"error": document["error"]} if "error" in document else dict(document["result"])

    @property
    def log(self) -> Path:
        return self.folder / "log.txt"


class Launcher:
    """Starts jobs at once. What it knows is in ``root/.jobs``, so another server over the same root knows it too."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.folder = self.root / ".jobs"
        self._children: list[subprocess.Popen[bytes]] = []

    def submit(self, verb: str, arguments: Mapping[str, Any]) -> int:
        config = validate(find(verb).module.Config, arguments)
        words, named = command(verb, config)[1:], getattr(config, "run", None)
        run = str(self.root / named) if named and (self.root / named).exists() else None
        if getattr(config, "writes", find(verb).writes) == "new run":
            run = str(naming.new_folder(self.root, verb, Path(str(arguments.get("data", verb))).name))
            words = [*words, "--out", run]
        return self._start(verb, arguments, words, run)

    def resume(self, run: str) -> int:
        return self._start("resume", {"run": run}, ["resume", str(self.root / run)], str(self.root / run))

    def jobs(self) -> Sequence[Launched]:
        self._children = [child for child in self._children if child.poll() is None]
        found = [job for path in self.folder.glob("*/job.json") if (job := _read(path.parent))]
        return sorted(found, key=lambda job: (job.active, job.id), reverse=True)

    def get(self, number: int) -> Launched:
        found = next((job for job in self.jobs() if job.id == number), None)
        if found is None:
            raise UsageError(f"there is no job {number}")
        return found

    def abort(self, number: int) -> Launched:
        job = self.get(number)
        if not job.active:
            raise UsageError(f"job {number} has already ended: {job.status}")
        (job.folder / "abort").touch()
        os.killpg(int(job.told["process"]["pid"]), signal.SIGINT)
        return job

    def _start(self, verb: str, arguments: Mapping[str, Any], words: Sequence[str], run: str | None) -> int:
        folder = self._next()
        with (folder / "log.txt").open("wb") as log, (folder / "result.json").open("wb") as result:
            child = subprocess.Popen(
                [sys.executable, "-m", "convsmith.cli", *words, "--json"],
                stdin=subprocess.DEVNULL,
                stdout=result,
                stderr=log,
                env={**os.environ, "CONVSMITH_RUNS": str(self.root)},
                start_new_session=True,
            )
        self._children.append(child)
        told = {"verb": verb, "arguments": arguments, "submitted": datetime.now(UTC).isoformat(timespec="milliseconds"), "run": run}
        files.write_json(folder / "job.json", told | {"process": process.identity(child.pid)})
        return int(folder.name)

    def _next(self) -> Path:
        with files.writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            number = max((int(path.name) for path in self.folder.iterdir() if path.name.isdigit()), default=0) + 1
            while True:
                try:
                    (self.folder / f"{number:06d}").mkdir()
                except FileExistsError:
                    number += 1
                    continue
                return self.folder / f"{number:06d}"


def _read(folder: Path) -> Launched | None:
    try:
        return Launched(folder, json.loads((folder / "job.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None
