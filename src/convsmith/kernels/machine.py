"""The processor that the kernels run on: its name and the instruction set in use."""

from __future__ import annotations

import importlib
import os
import platform
from pathlib import Path
from typing import Final

_CPU_INFO: Final = Path("/proc/cpuinfo")
#: The keys under which processors of different architectures give their name.
_NAME_KEYS: Final = ("model name", "Model", "Hardware", "cpu model")


def processor() -> str:
    """Return the processor's name, for example "AMD EPYC 9354"; the architecture's name where the system does not tell."""
    try:
        lines = _CPU_INFO.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    for key in _NAME_KEYS:
        if fields.get(key):
            return fields[key]
    return platform.processor() or platform.machine() or "unknown"


def processor_count() -> int:
    """Return the processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def instruction_sets() -> list[str]:
    """Return the instruction sets that the native kernels were compiled for and this processor has, slowest first; empty without them."""
    try:
        return list(importlib.import_module("convsmith._native").levels())
    except ImportError:
        return []


def instruction_set() -> str:
    """Return the instruction set that native kernels use: CONVSMITH_ISA, else the best one; "numpy" without the native module."""
    available = instruction_sets()
    return os.environ.get("CONVSMITH_ISA") or (available[-1] if available else "numpy")
