"""What the run was expected to take against what it took."""

from __future__ import annotations

from typing import Any

from convsmith.report import units
from convsmith.report.source import Source

ROWS = (("Time", "seconds", units.duration), ("Memory", "memory_bytes", units.size), ("Disk", "disk_bytes", units.size))


def build(source: Source) -> dict[str, Any] | None:
    """Return minutes, memory and disk, quoted before the start and measured at the end."""
    stored = source.table("quote.json")
    if stored is None:
        return None
    quoted, truth = stored["quoted"], stored.get("measured") or {}
    rows = []
    for name, key, show in ROWS:
        if quoted.get(key) is None and truth.get(key) is None:
            continue
        both = quoted.get(key) and truth.get(key)
        rows.append(
            {
                "name": name,
                "quoted": show(quoted.get(key)),
                "measured": show(truth.get(key)),
                "ratio": units.ratio(truth[key] / quoted[key]) if both else units.MISSING,
            }
        )
    return {"rows": rows} if rows else None
