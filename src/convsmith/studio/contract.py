"""What the pages ask of whoever runs the jobs: a queue of processes that outlive the server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol


class Job(Protocol):
    """One job of the queue, as its folder tells it.

    ``status``: queued, starting, running, stopping, finished, failed, aborted or died. ``run``: the run folder it writes, once known.
    ``progress``: stage, done and total, None before the first word. ``result``: what the verb returned, or ``{"error": ...}``.
    """

    @property
    def id(self) -> int: ...
    @property
    def verb(self) -> str: ...
    @property
    def arguments(self) -> Mapping[str, Any]: ...
    @property
    def status(self) -> str: ...
    @property
    def run(self) -> Path | None: ...
    @property
    def submitted(self) -> str: ...
    @property
    def seconds(self) -> float | None: ...
    @property
    def message(self) -> str: ...
    @property
    def active(self) -> bool: ...
    @property
    def progress(self) -> Mapping[str, Any] | None: ...
    @property
    def result(self) -> Mapping[str, Any] | None: ...
    @property
    def log(self) -> Path: ...


class Queue(Protocol):
    """Starts jobs as processes of their own over one folder of runs. Every method may be called from any thread."""

    def submit(self, verb: str, arguments: Mapping[str, Any]) -> int:
        """Take a job and return its number; `UsageError` for settings that cannot be."""
        ...

    def jobs(self) -> Sequence[Job]:
        """Return the jobs that wait and run, then those that ended, the newest first."""
        ...

    def get(self, number: int) -> Job:
        """Return one job; `UsageError` when there is none of that number."""
        ...

    def abort(self, number: int) -> Job:
        """End a job as Ctrl-C does, or take it from the queue; `UsageError` when it has ended."""
        ...

    def resume(self, run: str) -> int:
        """Go on with a run that did not come to its end, and return the number of the job that does."""
        ...
