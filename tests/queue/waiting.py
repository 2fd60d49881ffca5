"""Jobs whose process is a few lines of Python that the test steers by files, instead of a training."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import convsmith
from convsmith import queue
from convsmith.queue import job, store

SOURCE = str(Path(convsmith.__file__).parents[1])
KEEP = """
import sys
from pathlib import Path
from convsmith.queue.keeper import keep
keep(Path(sys.argv[1]), sys.argv[3:], eval(sys.argv[2]))
"""

#: Ended after each test.
STARTED: list[subprocess.Popen[bytes]] = []


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": SOURCE}


def until(told: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not told():
        assert time.monotonic() < end, "it did not become so"
        time.sleep(0.02)


def keeper(code: str, patience: str = "(20.0, 10.0)") -> Callable[[Path], list[str]]:
    """Return the command of a keeper whose job is ``code``, with the job's folder as its argument."""
    return lambda folder: [sys.executable, "-c", KEEP, str(folder), patience, sys.executable, "-c", code, str(folder)]


def put(root: Path, **options: object) -> Path:
    """Submit a job and return its folder."""
    return job.folder_of(root, queue.submit("check", {"data": "digits"}, root=root, **options))  # type: ignore[arg-type]


def begun(root: Path) -> Path:
    """Submit a job, note it as started as a worker does before it starts a keeper, and return its folder."""
    folder = put(root)
    with store.table(root) as table:
        table.execute("UPDATE jobs SET status = 'started' WHERE id = ?", (int(folder.name),))
    return folder


def begin(command: list[str]) -> subprocess.Popen[bytes]:
    STARTED.append(subprocess.Popen(command, env=environment(), stdin=subprocess.DEVNULL, start_new_session=True))
    return STARTED[-1]
