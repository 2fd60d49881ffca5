"""How a job ended, in words: its own exit, a signal we sent, one that somebody else sent, or memory that ran out."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LESS_MEMORY = "use a smaller batch, smaller images or fewer workers, and resume it where it stopped"

#: What ends a process by its own doing, by the signal.
_FAULTS = {
    signal.SIGSEGV: "a fault of native code",
    signal.SIGBUS: "a fault of native code or of the disk",
    signal.SIGABRT: "native code gave up",
}


@dataclass(frozen=True)
class Ending:
    """``status`` of the job, ``message`` for a person, exit ``code`` or the ``signal`` that ended it."""

    status: str
    message: str
    code: int | None = None
    signal: str | None = None


def explain(code: int | None, sent: Sequence[str], result: Mapping[str, Any] | None, killed_for_memory: bool) -> Ending:
    """Say how a process ended.

    ``code``: as `subprocess` gives it, negative for a signal; None where nobody could see it. ``sent``: the signals of an abort, in order.
    ``result``: what the job wrote about itself. ``killed_for_memory``: the kernel counts one more process killed for that.
    """
    error = (result or {}).get("error")
    if code == 0 or (code is None and result is not None and not error):
        return Ending("finished", "", 0)
    if sent and (code is None or code < 0 or code == 130):
        return _aborted(code, sent)
    if code is None and not error:
        return Ending("died", "it ended while nobody watched: its keeper had been killed before; whether it can be resumed its run tells")
    if code is not None and code < 0:
        return _killed(signal.Signals(-code), killed_for_memory)
    if code == 130 or (error or {}).get("kind") == "Interrupted":
        return Ending("aborted", "interrupted from outside (SIGINT or SIGTERM); its state was saved, so it can be resumed", 130)
    message = error["message"] if error else f"it ended with exit code {code} and without a word; see its log"
    return Ending("failed", message, code)


def _aborted(code: int | None, sent: Sequence[str]) -> Ending:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return Ending(
            "aborted", f"ended by {name} on request, after {', '.join(sent)}; it can be resumed from its last checkpoint", None, name
        )
    return Ending("aborted", f"stopped on request ({sent[0]}); its state was saved, so it can be resumed", code)


def _killed(number: signal.Signals, for_memory: bool) -> Ending:
    if number == signal.SIGKILL and for_memory:
        return Ending("died", f"the kernel killed it because memory ran out (out-of-memory killer): {LESS_MEMORY}", None, number.name)
    if number == signal.SIGKILL:
        told = "killed by SIGKILL, not sent from here: `kill -9`, or memory ran out where this process cannot see it (dmesg tells)"
        return Ending("died", f"{told}. If it was memory, {LESS_MEMORY}", None, number.name)
    reason = _FAULTS.get(number, "sent from outside")
    return Ending("died", f"killed by {number.name} ({reason}); it can be resumed from its last checkpoint", None, number.name)


def memory_kills() -> int:
    """Return how many processes of this control group, or where there is none of this machine, the kernel has killed for memory."""
    for file in (*_group_files(), Path("/proc/vmstat")):
        try:
            for line in file.read_text().splitlines():
                name, _, count = line.partition(" ")
                if name == "oom_kill":
                    return int(count)
        except (OSError, ValueError):
            continue
    return 0


def _group_files() -> list[Path]:
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            found.append(Path("/sys/fs/cgroup") / path.lstrip("/") / "memory.events")
        elif "memory" in controllers.split(","):
            found.append(Path("/sys/fs/cgroup/memory") / path.lstrip("/") / "memory.oom_control")
    return found
