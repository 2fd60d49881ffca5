"""Who is told about a training while it runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol


class Listener(Protocol):
    """What a run folder or any other place must have to be told about the training."""

    def event(self, kind: str, **fields: Any) -> None: ...

    def progress(self, stage: str, done: float, total: float, **fields: Any) -> None: ...


class Voice:
    """Tell a listener, where there is one, and a function that only wants the progress."""

    def __init__(self, listener: Listener | None, show: Callable[..., None] | None) -> None:
        self.listener, self.show = listener, show

    def event(self, kind: str, **fields: Any) -> None:
        if self.listener:
            self.listener.event(kind, **fields)

    def progress(self, stage: str, done: float, total: float, **fields: Any) -> None:
        if self.listener:
            self.listener.progress(stage, done, total, **fields)
        if self.show:
            self.show(stage, done, total, **fields)


def checkpoint_folder(listener: Listener | None, given: Path | None) -> Path | None:
    """Return where checkpoints go: the folder given, else ``checkpoints`` in the listener's own folder, else nowhere."""
    home = getattr(listener, "folder", None)
    return given or (Path(home) / "checkpoints" if home else None)
