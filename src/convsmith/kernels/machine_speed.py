"""What this machine can do at most: floating-point operations and bytes a second, measured once and remembered."""

from __future__ import annotations

import importlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from convsmith.errors import UnsupportedError, UsageError
from convsmith.kernels.machine import instruction_set, instruction_sets, processor, processor_count
from convsmith.kernels.tuning_cache import cache_path, replace

VERSION: Final = 1
TURNS: Final = 1 << 20
ROUNDS: Final = 7
WORKING_SETS_BYTES: Final = (3 << 15, 3 << 18, 3 << 21, 3 << 26)
"""Three arrays together: 96 KiB, 768 KiB, 6 MiB and 192 MiB, about the levels of a memory."""
PASS_BYTES: Final = 3 << 26
"""Each sample moves so many bytes, so that the clock weighs little."""


@dataclass(frozen=True)
class Speed:
    """The limits of a processor with so many threads.

    ``bandwidths``: ``(working set in bytes, bytes a second)``, the smallest set first: data that were just used come from a cache.
    """

    processor: str
    level: str
    threads: int
    flops_per_s: float
    bandwidths: tuple[tuple[int, float], ...]

    def bytes_per_s(self, working_set_bytes: int) -> float:
        """Return the bandwidth for data of that size; that of the memory for more than was measured."""
        return next((rate for size, rate in self.bandwidths if working_set_bytes <= size), self.bandwidths[-1][1])

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Speed:
        """Read what ``to_dict`` gave; other fields raise ``TypeError`` or ``ValueError``."""
        bandwidths = tuple((int(size), float(rate)) for size, rate in fields["bandwidths"])
        if not bandwidths or min(rate for _, rate in bandwidths) <= 0 or fields["flops_per_s"] <= 0:
            raise ValueError("a speed that is not positive")
        return cls(**{**fields, "bandwidths": bandwidths})


def measure(threads: int | None = None) -> Speed:
    """Measure now, in about a second: the best of 7 rounds, because other work on the machine only slows it.

    Operations are multiply-adds on registers in the widest vectors that the kernels use, each counted as two; bytes are those of
    ``y = x + a z`` over arrays of several sizes.

    Raises: ``UnsupportedError`` without the native module.
    References: J. McCalpin, STREAM, 1995 (triad).
    """
    threads = processor_count() if threads is None else threads
    if threads < 1:
        raise UsageError(f"threads is {threads}; give at least 1")
    if not instruction_sets():
        raise UnsupportedError("the native module is not built here, and the limits of the machine are measured with it")
    native, level = importlib.import_module("convsmith._native"), instruction_set()
    flops = max(native.time_multiply_adds(level, TURNS, threads) for _ in range(ROUNDS))
    return Speed(processor(), level, threads, flops, tuple((size, _bandwidth(native, level, size, threads)) for size in WORKING_SETS_BYTES))


def _bandwidth(native: Any, level: str, working_set_bytes: int, threads: int) -> float:
    x, z, y = (np.ones(working_set_bytes // 12, np.float32) for _ in range(3))
    repeats = max(1, PASS_BYTES // working_set_bytes)
    return max(float(native.time_triad(level, x, z, y, repeats, threads)) for _ in range(ROUNDS))


def machine_speed(threads: int | None = None, path: Path | None = None) -> Speed:
    """Return the limits of this machine, from the user's cache folder where they were measured before; see ``measure``."""
    threads = processor_count() if threads is None else threads
    target = path or cache_path().with_name("speed.json")
    key = " | ".join((processor(), instruction_set(), f"{threads} threads"))
    known = _recall(target)
    if key in known:
        return known[key]
    found = measure(threads)
    speeds = {name: speed.to_dict() for name, speed in {**known, key: found}.items()}
    replace(target, {"version": VERSION, "speeds": speeds})  # where it cannot be written, the next call measures again
    return found


def _recall(path: Path) -> dict[str, Speed]:
    """Return what the file holds by key; nothing when there is none or it cannot be understood."""
    try:
        content = json.loads(path.read_text())
        if content["version"] != VERSION:
            return {}
        return {str(key): Speed.from_dict(fields) for key, fields in content["speeds"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
