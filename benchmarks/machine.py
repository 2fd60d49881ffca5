"""What every result page states: the processor, the versions, the command; and how repeated measurements are summarised."""

from __future__ import annotations

import os
import platform
import statistics
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "docs" / "results"


def processor() -> str:
    """Return the processor's model name as the kernel reports it, else the machine type."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()


def footer(packages: tuple[str, ...] = ("convsmith", "torch", "numpy")) -> str:
    """Return the Markdown lines with the command, the processor and the versions."""
    versions = []
    for name in packages:
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            versions.append(f"{name} not installed")
    policy = [f"OMP_WAIT_POLICY={os.environ['OMP_WAIT_POLICY']}"] if "OMP_WAIT_POLICY" in os.environ else []
    command = " ".join([*policy, "python", "benchmarks/" + Path(sys.argv[0]).name, *sys.argv[1:]])
    return f"\nCommand: `{command}`  \nProcessor: {processor()}, Python {platform.python_version()}  \nVersions: {', '.join(versions)}\n"


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Return the lower quartile, the median and the upper quartile (inclusive method); one value stands for all three."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high
