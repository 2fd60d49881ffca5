"""What was chosen automatically, and why."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from convsmith.report.source import Source


def build(source: Source) -> dict[str, Any] | None:
    """Return the decisions in the order they were taken, those of one stage together."""
    stored = source.document("decisions.json")
    if not stored:
        return None
    rows = [{key: str(row.get(key, "")) for key in ("stage", "choice", "reason")} for row in stored]
    return {"stages": [{"name": stage, "rows": list(found)} for stage, found in groupby(rows, key=lambda row: row["stage"])]}
