"""A kind of file: its usual name, the runtime that opens it, and what writes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal

from convsmith.targets.shipment import Shipment

Writer = Callable[[Shipment, Path], tuple[Path, ...]]
Plans = Literal["none", "may", "must"]


@dataclass(frozen=True)
class Target:
    """``file``: the usual name. ``write`` returns every file it wrote, the main one first.

    ``runtime``: what opens the file, a key of ``sessions.RUNTIMES``; None where nothing here does. ``plans``: whether number formats
    belong to it. ``help``: one line for people.
    """

    file: str
    runtime: str | None
    write: Writer
    plans: Plans = "none"
    help: str = ""

    @property
    def suffix(self) -> str:
        return PurePath(self.file).suffix
