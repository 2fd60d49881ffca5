"""A run as it happens: the lines that its job appends, sent on to whoever watches, from where they left off."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from fastapi.sse import format_sse_event

from convsmith import runs
from convsmith.errors import ConvsmithError
from convsmith.studio.curves import EVENTS, PROGRESS, read_lines

PAUSE_S = 0.5
PING_S = 15.0
STATUS_S = 2.0


def offsets(last: str) -> tuple[int, int]:
    """Return how far events and progress were read, from the id of the last event that arrived; what is no such id starts anew."""
    found = re.fullmatch(r"(\d{1,15})-(\d{1,15})", last)
    return (int(found[1]), int(found[2])) if found else (0, 0)


async def follow(folder: Path, last: str, leaves: Callable[[], Any], closing: Callable[[], bool]) -> AsyncIterator[bytes]:
    """Yield what happens to a run: ``event`` and ``progress`` with the lines as they were written, ``status``, and ``gone`` at the end.

    A line is passed on as it is, so that many watchers cost little. Ends when the run is over or removed, or the watcher leaves.
    """
    read = list(offsets(last))
    status, quiet_s, unasked_s = "", 0.0, STATUS_S
    while not closing() and not await leaves():
        if not (folder / "run.json").exists():
            yield format_sse_event(event="gone", data_str='"the run was removed"')
            return
        was_over = status not in ("", "running")
        sent = False
        for place, (name, event) in enumerate(((EVENTS, "event"), (PROGRESS, "progress"))):
            if _size(folder / name) == read[place]:
                continue
            found = read_lines(folder / name, read[place])
            for line in found.lines:
                yield format_sse_event(event=event, data_str=line)
                sent = True
            read[place] = found.offset
        if sent:
            yield format_sse_event(event="mark", data_str="null", id=f"{read[0]}-{read[1]}")
            quiet_s = 0.0
        if unasked_s >= STATUS_S or sent:
            told = _status(folder)
            if told is not None and told["status"] != status:
                status = told["status"]
                yield format_sse_event(event="status", data_str=json.dumps(told))
            unasked_s = 0.0
        if was_over and not sent:
            return
        if quiet_s >= PING_S:
            yield b": ping\n\n"
            quiet_s = 0.0
        await asyncio.sleep(PAUSE_S)
        quiet_s, unasked_s = quiet_s + PAUSE_S, unasked_s + PAUSE_S


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _status(folder: Path) -> dict[str, Any] | None:
    try:
        run = runs.open(folder)
    except ConvsmithError:
        return None
    return {"status": run.status, "error": run.error, "summary": runs.plain(run.summary)}
