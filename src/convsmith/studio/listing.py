"""The table of runs, kept in memory between requests and brought up to date from the index behind them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from convsmith import runs
from convsmith.jobs.text import printable
from convsmith.runs import notes

FRESH_S = 1.0
PAGE = 100

Key = Callable[["Row"], Any]


@dataclass(frozen=True)
class Row:
    """One run as the table shows it. ``address``: its name as a link has it, "" where it cannot be one."""

    name: str
    title: str
    verb: str
    data: str
    status: str
    created: str
    top1: float | None
    model: str
    address: str
    error: str | None = None
    text: str = field(default="", repr=False)


SORTS: dict[str, Key] = {
    "name": lambda row: row.title.lower() or row.name.lower(),
    "verb": lambda row: row.verb,
    "data": lambda row: row.data.lower(),
    "status": lambda row: row.status,
    "created": lambda row: (row.created, row.name),
    "top1": lambda row: -1.0 if row.top1 is None else row.top1,
    "model": lambda row: row.model,
}


class Listing:
    """All runs under one folder. A request sees what was there at most a second before; the first one waits for the index."""

    def __init__(self, root: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.root, self.clock = root, clock
        self._rows: list[Row] | None = None
        self._read_at = 0.0
        self._busy = threading.Lock()

    def rows(self, *, fresh: bool = False) -> list[Row]:
        """Return all rows, the oldest first; ``fresh`` reads the folder now, as after a change of our own."""
        if self._rows is None or fresh:
            with self._busy:
                if self._rows is None or fresh:
                    self._read()
        elif self.clock() - self._read_at > FRESH_S and self._busy.acquire(blocking=False):
            threading.Thread(target=self._read_behind, daemon=True).start()
        assert self._rows is not None
        return self._rows

    def select(
        self, *, text: str = "", status: str = "", verb: str = "", sort: str = "created", descending: bool = True, fresh: bool = False
    ) -> list[Row]:
        """Return the rows that hold every word of ``text``, in the order asked for; an unknown order is the newest first."""
        words = text.lower().split()
        found = [
            row
            for row in self.rows(fresh=fresh)
            if (not status or row.status == status) and (not verb or row.verb == verb) and all(word in row.text for word in words)
        ]
        return sorted(found, key=SORTS.get(sort, SORTS["created"]), reverse=descending)

    def running(self) -> list[Row]:
        """Return the rows of living runs, the newest first."""
        return [row for row in reversed(self.rows()) if row.status == "running"]

    def _read_behind(self) -> None:
        try:
            self._read()
        finally:
            self._busy.release()

    def _read(self) -> None:
        self._rows = [_row(entry) for entry in runs.entries(self.root)]
        self._read_at = self.clock()


def _row(entry: runs.Entry) -> Row:
    name = entry.name
    try:
        name.encode()
        address = name
    except UnicodeEncodeError:
        name, address = printable(name), ""
    title = notes.read(entry.folder).title if address else ""
    top1, model = entry.summary.get("top1"), str(entry.summary.get("model") or "")
    words = (name, title, entry.verb, entry.data, entry.status, model)
    return Row(
        name=name,
        title=title,
        verb=entry.verb,
        data=printable(entry.data),
        status=entry.status,
        created=entry.created,
        top1=float(top1) if isinstance(top1, int | float) else None,
        model=model,
        address=address,
        error=entry.error,
        text=" ".join(words).lower(),
    )


def page_of(rows: Sequence[Row], number: int, size: int = PAGE) -> tuple[Sequence[Row], int]:
    """Return one page of rows, counted from 1, and how many pages there are; a number past the end is the last."""
    pages = max(1, -(-len(rows) // size))
    number = min(max(1, number), pages)
    return rows[(number - 1) * size : number * size], pages
