"""A paper's figures beside ours: the tables of a reproduction and what became of its claims."""

from __future__ import annotations

import base64
from typing import Any

from convsmith.report.source import Source


def build(source: Source) -> dict[str, Any] | None:
    """Return the tables of results.json and the picture beside it."""
    found = source.table("results.json")
    if found is None:
        return None
    picture = source.run.folder / "errors.svg"
    encoded = base64.b64encode(picture.read_bytes()).decode("ascii") if picture.is_file() else ""
    return {
        "citation": found["citation"],
        "quick": found["size"] == "quick",
        "headers": found["headers"],
        "experiments": found["experiments"],
        "picture": encoded,
    }
