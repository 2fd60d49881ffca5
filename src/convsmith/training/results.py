"""What a training run returns."""

from __future__ import annotations

import re
import resource
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from convsmith.training.planning import Plan

StoppedBy = Literal["epochs", "time", "patience", "interrupt"]


@dataclass(frozen=True)
class Fit:
    """A trained network and how it came about.

    ``module``: the network given, with the weights of the best validation, in evaluation mode. ``history``: one record per epoch with
    ``epoch``, ``step``, ``loss``, ``accuracy``, ``lr``, ``seconds`` and, where it was validated, ``val_loss`` and ``val_accuracy``.
    ``network``: what answers as it was trained, ``module`` itself or, under a plan, its emulation. ``counts``: what rounding did there.
    ``stopped_by``: ``time`` means that the time budget set the number of updates. ``seconds``: of the whole run, all resumed pieces
    together. ``memory_bytes``: peak of the process. ``disk_bytes``: of the checkpoints. ``checkpoint``: the file to resume from.
    """

    module: nn.Module
    network: nn.Module
    counts: tuple[dict[str, Any], ...]
    history: tuple[dict[str, Any], ...]
    best_accuracy: float
    best_epoch: float
    epochs_done: float
    steps_done: int
    seconds: float
    stopped_by: StoppedBy
    plan: Plan
    memory_bytes: int
    disk_bytes: int
    checkpoint: Path | None

    @property
    def advice(self) -> str:
        """How to go on after an interrupt, else nothing."""
        if self.stopped_by != "interrupt":
            return ""
        if self.checkpoint is None:
            return "no checkpoint was written, because there was no folder for one; the run starts anew"
        return (
            f"interrupted at update {self.steps_done} of {self.plan.steps}; to go on, call fit again with resume=True ({self.checkpoint})"
        )


def peak_memory_bytes() -> int:
    """Return the largest memory this process has held.

    Linux tells it of the program alone; what `getrusage` says there may be the parent's, from before the program was loaded.
    """
    status = Path("/proc/self/status")
    if status.exists():
        peak = re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(), re.MULTILINE)
        if peak:
            return int(peak[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
