"""What the machine is doing now."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import psutil

DRIVER = Path("/proc/driver/nvidia/version")


def now(folder: Path) -> dict[str, Any]:
    """Return the load of processors, memory and the disk of ``folder``; a value the system does not tell is None.

    ``unseen``: what cannot be seen here, and why.
    Units: shares 0..1, sizes in bytes, temperature in degrees Celsius.
    """
    temperature, (gpus, blind) = _temperature(), _gpus()
    memory, disk = psutil.virtual_memory(), shutil.disk_usage(folder)
    return {
        "processors": [share / 100 for share in psutil.cpu_percent(percpu=True)],
        "load": os.getloadavg()[0],
        "memory_used_bytes": memory.total - memory.available,
        "memory_bytes": memory.total,
        "disk_used_bytes": disk.used,
        "disk_free_bytes": disk.free,
        "disk_bytes": disk.total,
        "temperature_c": temperature,
        "gpus": gpus,
        "unseen": [*([] if temperature is not None else ["the temperature of the processors: this system tells none"]), *blind],
    }


def _temperature() -> float | None:
    try:
        sensors = psutil.sensors_temperatures()
    except (AttributeError, OSError):
        return None
    found = [entry.current for entries in sensors.values() for entry in entries if entry.current]
    return max(found) if found else None


def _gpus() -> tuple[list[dict[str, Any]], list[str]]:
    """Return the NVIDIA GPUs as the driver's own library tells them, and what of them cannot be seen."""
    try:
        import pynvml
    except ImportError:
        if not DRIVER.exists():
            return [], ["GPUs: no NVIDIA driver is loaded"]
        return [], ["GPUs: there is a driver, but not the package that asks it; pip install 'convsmith[gpu]'"]
    try:
        pynvml.nvmlInit()
        return [_gpu(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount())], []
    except pynvml.NVMLError as error:
        return [], [f"GPUs: the driver does not answer ({error})"]


def _gpu(pynvml: Any, index: int) -> dict[str, Any]:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    return {
        "name": str(pynvml.nvmlDeviceGetName(handle)),
        "used": pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100,
        "memory_used_bytes": memory.used,
        "memory_bytes": memory.total,
        "temperature_c": float(pynvml.nvmlDeviceGetTemperature(handle, 0)),
    }
