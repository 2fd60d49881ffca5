"""How far a job is: a moving bar with the time left on a terminal, a few plain lines elsewhere; always on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self, TextIO

from convsmith import runs
from convsmith.jobs.duration import format_duration
from convsmith.jobs.text import printable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Display:
    """Shows progress and decisions while it is entered; ``quiet`` shows nothing."""

    def __init__(self, *, quiet: bool = False, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.quiet = quiet
        self.bars: Progress | None = None
        self.tasks: dict[str, TaskID] = {}
        self.begun: dict[str, float] = {}

    def __enter__(self) -> Self:
        if not self.quiet and self.stream.isatty():
            self.bars = _bars(self.stream)
            self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bars:
            self.bars.stop()

    def show(self, progress: runs.Progress) -> None:
        """Show one step of a stage."""
        if self.quiet:
            return
        if self.bars:
            if progress.stage not in self.tasks:
                self.tasks[progress.stage] = self.bars.add_task(progress.stage, total=progress.total, beside="")
            self.bars.update(self.tasks[progress.stage], completed=progress.done, total=progress.total, beside=_beside(progress.fields))
            return
        now = time.monotonic()
        began = self.begun.setdefault(progress.stage, now)
        if progress.done >= progress.total and began >= 0:
            self.begun[progress.stage] = -1.0
            if now - began >= 1:
                self._line(f"{progress.stage}: done in {format_duration(now - began)}")

    def hear(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Tell a decision and its reason, or a quote."""
        if self.quiet:
            return
        if kind == "decision":
            reason = f" ({printable(fields['reason'])})" if fields["reason"] else ""
            self._line(f"{fields['stage']}: {printable(fields['choice'])}{reason}")
        elif kind == "quote":
            self._line(f"quote: about {format_duration(fields['seconds'])}")
        elif kind == "epoch" and "saturated" in fields:
            self._line(_signs(fields))
        elif kind == "stage":
            self._line(printable(fields.get("text", fields.get("name", ""))))

    def _line(self, text: str) -> None:
        if self.bars:
            self.bars.console.print(text, highlight=False, markup=False)
        else:
            print(text, file=self.stream, flush=True)


def _bars(stream: TextIO) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description:<10}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[beside]}"),
        console=Console(file=stream),
    )


def _beside(fields: Mapping[str, Any]) -> str:
    return "  ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in fields.items())


def _signs(fields: Mapping[str, Any]) -> str:
    """Return how a binary network learns, in one line."""
    told = {"flips": "weights flipped in an update", "dead": "channels dead", "saturated": "signs without a gradient"}
    parts = [f"{100 * fields[key]:.2g} % of {words}" for key, words in told.items() if fields.get(key) is not None]
    return f"epoch {fields['epoch']:.3g}: {', '.join(parts)}"
