"""Which process writes a run, and whether it still lives."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def identity(pid: int | None = None) -> dict[str, Any]:
    """Return host, pid and start of a process (this one by default); ``started`` is None when there is no such process.

    The start is clock ticks since boot with the identity of the boot: exact, unlike a wall clock that gets corrected.
    """
    pid = os.getpid() if pid is None else pid
    return {"host": socket.gethostname(), "pid": pid, "started": _started(pid)}


def alive(process: Mapping[str, Any]) -> bool:
    """Tell whether the recorded process still runs. A process of another host is taken to run: it cannot be asked."""
    if process.get("host") != socket.gethostname():
        return True
    started = _started(int(process.get("pid", 0)))
    return started is not None and started == process.get("started")


def boot_clock() -> dict[str, Any]:
    """Return the seconds since this machine started and the identity of that start: a clock that nobody can set."""
    return {"boot": _boot(), "s": time.clock_gettime(time.CLOCK_BOOTTIME)}


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _started(pid: int) -> str | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = _boot()
    except OSError:
        return None
    state, ticks = fields[0], fields[19]
    return None if state in "ZX" else f"{boot}:{ticks}"
