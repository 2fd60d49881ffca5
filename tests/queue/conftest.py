"""No process of a test outlives it."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import waiting

from convsmith.queue import job
from convsmith.runs import process


@pytest.fixture(autouse=True)
def _no_stray(tmp_path: Path) -> Iterator[None]:
    yield
    place = tmp_path / ".queue"
    identities = [job.read(place / "worker.json")]
    for noted in map(job.read, place.glob("jobs/*/process.json")):
        identities += [noted["child"], noted["keeper"]] if noted else []
    for identity in identities:
        if identity is not None and process.alive(identity) and identity["pid"] != os.getpid():
            with contextlib.suppress(ProcessLookupError):
                os.kill(identity["pid"], signal.SIGKILL)
    for started in waiting.STARTED:
        started.kill()
        started.wait()
    waiting.STARTED.clear()
