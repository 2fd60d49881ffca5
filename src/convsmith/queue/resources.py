"""What this machine has for jobs, what a job takes, and which waiting job starts next."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convsmith.errors import UsageError
from convsmith.queue.store import Row

#: Verbs that look at files in one thread; every other verb takes all processors unless it is told how many.
ONE_PROCESSOR = ("check", "pack", "preview", "predict", "inspect")
#: How often a job that does not fit is overtaken by smaller ones before everything waits for it.
PATIENCE = 4


@dataclass(frozen=True)
class Machine:
    """Processors by number and GPUs by the names CUDA_VISIBLE_DEVICES would give them."""

    cores: int
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True)
class Share:
    """What a job holds while it runs."""

    cores: int
    gpus: tuple[str, ...] = ()


def machine() -> Machine:
    """Return what this process may use."""
    return Machine(len(os.sched_getaffinity(0)), _gpus())


def _gpus() -> tuple[str, ...]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return tuple(name.strip() for name in visible.split(",") if name.strip() not in ("", "-1"))
    try:
        return tuple(str(place) for place, _ in enumerate(sorted(Path("/proc/driver/nvidia/gpus").iterdir())))
    except OSError:
        return ()


def wants(verb: str, settings: Any, cores: int | None, gpus: int | None) -> tuple[int, int]:
    """Return the processors (0: all) and GPUs a job takes, by its settings where the caller leaves it open.

    Raises: UsageError for numbers this machine does not have.
    """
    has = machine()
    if cores is None:
        cores = int(getattr(settings, "threads", 0) or 0) or (1 if verb in ONE_PROCESSOR else 0)
        cores = min(cores, has.cores)
    if gpus is None:
        device = getattr(settings, "device", "cpu")
        gpus = 1 if device == "cuda" or (device == "auto" and has.gpus) else 0
    if not 0 <= cores <= has.cores:
        raise UsageError(f"a job can take 1 to {has.cores} processors of this machine, or 0 for all; {cores} were asked for")
    if not 0 <= gpus <= max(len(has.gpus), int(getattr(settings, "device", "") == "cuda")):
        raise UsageError(f"a job can take up to {len(has.gpus)} GPUs of this machine; {gpus} were asked for")
    return cores, gpus


@dataclass(frozen=True)
class Asked:
    """A waiting job and what it takes, in the order of starting."""

    row: Row
    cores: int
    gpus: int


def choose(waiting: Iterable[Asked], held: Sequence[Share], has: Machine) -> tuple[list[tuple[Asked, Share]], list[Asked]]:
    """Return which waiting jobs start now with what they get, and those that were overtaken.

    A smaller job may overtake one that does not fit, but only `PATIENCE` times: after that the free processors are kept for it.
    """
    free = has.cores - sum(share.cores for share in held)
    taken = {name for share in held for name in share.gpus}
    gpus = [name for name in has.gpus if name not in taken]
    starting: list[tuple[Asked, Share]] = []
    passed: list[Asked] = []
    for asked in waiting:
        cores = min(asked.cores or has.cores, has.cores)
        count = min(asked.gpus, len(has.gpus))
        if cores <= free and count <= len(gpus):
            starting.append((asked, Share(cores, tuple(gpus[:count]))))
            free, gpus = free - cores, gpus[count:]
            continue
        if asked.row.overtaken >= PATIENCE:
            break
        passed.append(asked)
    overtaken = [asked for asked in passed if any(_before(asked.row, other.row) for other, _ in starting)]
    return starting, overtaken


def _before(a: Row, b: Row) -> bool:
    return (-a.priority, a.id) < (-b.priority, b.id)
