"""The worker as a process in the background: whether one lives, and one started where none does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from convsmith.queue import job
from convsmith.runs import files, naming, process

#: A worker started for a page ends after so long without work; the next job starts another.
LINGER_S = 600.0
WORKER, WORKER_LOG = "worker.json", "worker.log"

# our own children, so that an ended worker does not stay a zombie of a server that lives for weeks
_STARTED: list[subprocess.Popen[bytes]] = []


def worker_alive(root: Path | None = None) -> bool:
    """Tell whether a worker serves the queue of a runs folder."""
    identity = job.read(job.place(root or naming.root()) / WORKER)
    return identity is not None and process.alive(identity)


def ensure_worker(root: Path | None = None) -> bool:
    """Start a worker in the background where none lives, and tell whether one was started. Of two started at once one leaves.

    Raises: ResourceError when the runs folder cannot be written.
    """
    place = job.place((root or naming.root()).expanduser().absolute())
    _STARTED[:] = [known for known in _STARTED if known.poll() is None]
    if worker_alive(place.parent):
        return False
    with files.writing(place):
        place.mkdir(parents=True, exist_ok=True)
        with (place / WORKER_LOG).open("ab") as log:
            command = [sys.executable, "-P", "-m", "convsmith.queue.worker", str(place.parent), str(LINGER_S)]
            started = subprocess.Popen(command, env=os.environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    _STARTED.append(started)
    return True
