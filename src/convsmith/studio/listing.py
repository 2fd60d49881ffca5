"""The table of runs, kept in memory between requests and brought up to date from the index behind them."""

from __future__ import annotations

import os
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
#: Reading takes at most one in so many seconds, however many runs there are.
SHARE = 20
PAGE = 100

Key = Callable[["Row"], Any]


@dataclass(frozen=True)
class Row:
    """One run as the table shows it. ``folder``: its name as it is; ``address``: as a link has it, "" where it cannot be one."""

    folder: str
    name: str
    title: str
    verb: str
    data: str
    status: str
    created: str
    top1: float | None
    model: str
    address: str
    group: str = ""
    parameters: float | None = None
    seconds: float | None = None
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
    "group": lambda row: row.group.lower(),
    "parameters": lambda row: -1.0 if row.parameters is None else row.parameters,
    "seconds": lambda row: -1.0 if row.seconds is None else row.seconds,
}
#: What the rows of the table may be put together by.
GROUPS: tuple[str, ...] = ("group", "data", "model", "verb", "status")


class Listing:
    """All runs under one folder. New, removed and running ones are looked at for every request, the others at most once a second.

    The first request waits for the index; a later one never does, so that ten thousand runs cost it a few milliseconds.
    """

    def __init__(self, root: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.root, self.clock = root, clock
        self._rows: dict[str, Row] | None = None
        self._ordered: list[Row] = []
        self._seen: frozenset[str] = frozenset()
        self._stamp = 0
        self._read_at = self._read_s = 0.0
        self._busy = threading.Lock()
        self._short = threading.Lock()

    def rows(self, *, fresh: bool = False) -> list[Row]:
        """Return all rows, the oldest first; ``fresh`` reads every folder now."""
        if self._rows is None or fresh:
            with self._busy:
                if self._rows is None or fresh:
                    self._read()
            return self._ordered
        with self._short:
            self._catch_up()
        if self.clock() - self._read_at > max(FRESH_S, SHARE * self._read_s) and self._busy.acquire(blocking=False):
            threading.Thread(target=self._read_behind, daemon=True).start()
        return self._ordered

    def _catch_up(self) -> None:
        """Take in what was begun, removed or changed by a living job since the last look."""
        assert self._rows is not None
        rows, stamp = dict(self._rows), _stamp(self.root)
        if stamp != self._stamp:
            self._seen, self._stamp = _folders(self.root), stamp
        gone = [name for name in rows if name not in self._seen]
        live = [name for name, row in rows.items() if row.status == "running"]
        new = [name for name in self._seen if name not in rows and (self.root / name / "run.json").exists()]
        for name in gone:
            del rows[name]
        for name in {*live, *new} & self._seen:
            rows[name] = _row(runs.index.entry(self.root / name))
        if gone or live or new:
            self._keep(rows)

    def _keep(self, rows: dict[str, Row]) -> None:
        self._rows = rows
        self._ordered = sorted(rows.values(), key=lambda row: (row.created, row.folder))

    def select(
        self,
        *,
        text: str = "",
        status: str = "",
        verb: str = "",
        sort: str = "created",
        descending: bool = True,
        by: str = "",
        fresh: bool = False,
    ) -> list[Row]:
        """Return the rows that hold every word of ``text``, in the order asked for; an unknown order is the newest first.

        ``by``: a name of ``GROUPS`` whose equal values stand together, those without one last.
        """
        words = text.lower().split()
        found = [
            row
            for row in self.rows(fresh=fresh)
            if (not status or row.status == status) and (not verb or row.verb == verb) and all(word in row.text for word in words)
        ]
        found = sorted(found, key=SORTS.get(sort, SORTS["created"]), reverse=descending)
        return sorted(found, key=lambda row: (not getattr(row, by), SORTS[by](row))) if by in GROUPS else found

    def running(self) -> list[Row]:
        """Return the rows of living runs, the newest first."""
        return [row for row in reversed(self.rows()) if row.status == "running"]

    def _read_behind(self) -> None:
        try:
            self._read()
        finally:
            self._busy.release()

    def _read(self) -> None:
        began, stamp = self.clock(), _stamp(self.root)
        found = {entry.folder.name: _row(entry) for entry in runs.entries(self.root)}
        with self._short:
            self._seen, self._stamp = _folders(self.root), stamp
            self._keep(found)
        self._read_at = self.clock()
        self._read_s = self._read_at - began


def _stamp(root: Path) -> int:
    try:
        return root.stat().st_mtime_ns
    except OSError:
        return 0


def _folders(root: Path) -> frozenset[str]:
    try:
        with os.scandir(root) as found:
            return frozenset(entry.name for entry in found if not entry.name.startswith(".") and entry.is_dir())
    except OSError:
        return frozenset()


def _row(entry: runs.Entry) -> Row:
    name = entry.name
    try:
        name.encode()
        address = name
    except UnicodeEncodeError:
        name, address = printable(name), ""
    noted = notes.read(entry.folder) if address else notes.Notes()
    model = str(entry.summary.get("model") or "")
    words = (name, noted.title, noted.group, entry.verb, entry.data, entry.status, model)
    return Row(
        folder=entry.folder.name,
        name=name,
        title=noted.title,
        verb=entry.verb,
        data=printable(entry.data),
        status=entry.status,
        created=entry.created,
        top1=_number(entry.summary.get("top1")),
        model=model,
        address=address,
        group=noted.group,
        parameters=_number(entry.summary.get("parameters")),
        seconds=_number(entry.summary.get("seconds")),
        error=entry.error,
        text=" ".join(words).lower(),
    )


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def page_of(rows: Sequence[Row], number: int, size: int = PAGE) -> tuple[Sequence[Row], int]:
    """Return one page of rows, counted from 1, and how many pages there are; a number past the end is the last."""
    pages = max(1, -(-len(rows) // size))
    number = min(max(1, number), pages)
    return rows[(number - 1) * size : number * size], pages
