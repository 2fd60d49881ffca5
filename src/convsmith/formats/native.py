"""The native module, where it is built: which instruction set and how many threads to use."""

from __future__ import annotations

import importlib
import os
from types import ModuleType
from typing import Final, NamedTuple

from convsmith.errors import UnsupportedError, UsageError, near

#: The native kernels hand out parts of so many elements; smaller arrays have work for one thread only.
_ONE_THREAD: Final = 1 << 16


class Native(NamedTuple):
    """The native module and the instruction set to use."""

    module: ModuleType
    level: str

    def threads(self, asked: int | None, size: int) -> int:
        """Return the number of threads for ``size`` elements: those asked for, else the default where there is work for them."""
        if asked is not None and asked < 1:
            raise UsageError(f"threads must be at least 1; got {asked}.")
        if asked is not None:
            return asked
        return threads_by_default() if size > _ONE_THREAD else 1


def native_module() -> ModuleType | None:
    """Return ``convsmith._native``, or None where it was not built."""
    try:
        return importlib.import_module("convsmith._native")
    except ImportError:
        return None


def choose(isa: str | None = None) -> Native | None:
    """Return the native module with its instruction set: the argument, else CONVSMITH_ISA, else the best; None where it was not built.

    Raises: UnsupportedError for an instruction set that is not there.
    """
    module = native_module()
    if module is None:
        if isa is not None:
            raise UnsupportedError(
                f"isa={isa!r} asks for the native module convsmith._native, which is not built here; install with a C++ compiler."
            )
        return None
    levels: list[str] = module.levels()
    name = isa if isa is not None else os.environ.get("CONVSMITH_ISA") or levels[-1]
    if name not in levels:
        raise UnsupportedError(f"No instruction set {name!r} here.{near(name, levels)} This processor and build have: {', '.join(levels)}.")
    return Native(module, name)


def threads_by_default() -> int:
    """Return how many threads rounding uses: CONVSMITH_THREADS, else OMP_NUM_THREADS, else the processors this process may use."""
    for name in ("CONVSMITH_THREADS", "OMP_NUM_THREADS"):
        text = os.environ.get(name, "")
        if text.isdigit() and int(text) > 0:
            return int(text)
    return len(os.sched_getaffinity(0))
