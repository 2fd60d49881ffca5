"""What was chosen automatically, and why."""

from __future__ import annotations

from typing import Any

from convsmith.report.source import Source


def build(source: Source) -> dict[str, Any] | None:
    """Return the decisions in the order they were taken."""
    rows = source.document("decisions.json")
    if not rows:
        return None
    return {"rows": [{key: str(row.get(key, "")) for key in ("stage", "choice", "reason")} for row in rows]}
