"""The exported file and its parity with the trained network."""

from __future__ import annotations

from typing import Any

from convsmith.report import units
from convsmith.report.sections.speed import NAMES
from convsmith.report.source import Source


def build(source: Source) -> dict[str, Any] | None:
    """Return what was exported and how it compares on real images."""
    export = source.table("export.json")
    if export is None:
        return None
    parity = export.get("parity")
    if parity is not None:
        wrong, ties = len(parity["disagreements"]), len(parity["ties"])
        parity = {
            "passed": bool(parity["passed"]),
            "runtime": NAMES.get(parity["runtime"], parity["runtime"]),
            "images": units.count(parity["images"]),
            "same": units.count(parity["images"] - wrong - ties),
            "wrong": wrong and units.count(wrong),
            "ties": ties and f"{units.count(ties)} {'is a tie' if ties == 1 else 'are ties'}",
            "tie": f"{parity['tie']:g}",
            "largest": units.tiny(parity["largest_score_difference"]),
        }
    return {
        "files": [str(name) for name in export["files"]],
        "target": export["target"],
        "size": units.size(export["size_bytes"]),
        "parity": parity,
    }
