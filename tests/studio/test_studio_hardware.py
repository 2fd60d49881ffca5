"""The panel of the machine tells what it sees, and what it cannot see."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import psutil
import pytest

from convsmith.studio import hardware


def test_the_figures_are_those_of_the_system(tmp_path: Path) -> None:
    told = hardware.now(tmp_path)
    assert len(told["processors"]) == psutil.cpu_count() and all(0 <= share <= 1 for share in told["processors"])
    assert told["memory_bytes"] == psutil.virtual_memory().total and 0 < told["memory_used_bytes"] < told["memory_bytes"]
    assert told["disk_used_bytes"] + told["disk_free_bytes"] <= told["disk_bytes"]


def test_what_cannot_be_seen_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_temperature", lambda: None)
    monkeypatch.setattr(hardware, "DRIVER", tmp_path / "version")
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert hardware.now(tmp_path)["unseen"] == [
        "the temperature of the processors: this system tells none",
        "GPUs: no NVIDIA driver is loaded",
    ]
    (tmp_path / "version").touch()
    monkeypatch.setattr(hardware, "_temperature", lambda: 40.0)
    assert hardware.now(tmp_path)["unseen"] == ["GPUs: there is a driver, but not the package that asks it; pip install 'convsmith[gpu]'"]


class Driver(types.ModuleType):
    """The functions of NVIDIA's library that are used, over two made-up GPUs."""

    class NVMLError(Exception):
        pass

    answers = True

    def nvmlInit(self) -> None:
        if not self.answers:
            raise self.NVMLError("Driver/library version mismatch")

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetName(self, handle: int) -> str:
        return f"GPU {handle}"

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        return types.SimpleNamespace(used=1 << 30, total=8 << 30)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:
        return types.SimpleNamespace(gpu=25 * (handle + 1))

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:
        return 50 + handle


def test_gpus_are_told_by_their_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver("pynvml")
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    told = hardware.now(tmp_path)
    assert [(gpu["name"], gpu["used"], gpu["temperature_c"]) for gpu in told["gpus"]] == [("GPU 0", 0.25, 50.0), ("GPU 1", 0.5, 51.0)]
    assert not any(reason.startswith("GPUs") for reason in told["unseen"])
    driver.answers = False
    told = hardware.now(tmp_path)
    assert told["gpus"] == [] and told["unseen"][-1] == "GPUs: the driver does not answer (Driver/library version mismatch)"
