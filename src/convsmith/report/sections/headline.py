"""What you got, in one sentence and four numbers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from convsmith.report import units
from convsmith.report.sections import bits, speed
from convsmith.report.source import Source, quietly

ENDS = {
    "failed": "This run failed",
    "interrupted": "This run was interrupted",
    "stopped": "This run was stopped",
    "running": "This run is not done yet",
}


def build(source: Source) -> dict[str, Any]:
    """Return title, status, verdict sentences and the figures; each figure is left out when it was not measured."""
    described = source.described
    figures = [quietly(figure, source)[0] for figure in (_accuracy, _size, _latency, _bits)]
    return {
        "title": str(described.get("data") or source.run.name),
        "verb": source.run.verb,
        "name": source.run.name,
        "when": units.moment(described["created"]),
        "created": str(described["created"]),
        "took": _took(described["created"], described.get("finished") or (source.events[-1].get("time") if source.events else None)),
        "trouble": ENDS.get(source.status),
        "error": described.get("error"),
        "verdict": quietly(_verdict, source)[0],
        "figures": [figure for figure in figures if figure],
    }


def _took(created: Any, finished: Any) -> str | None:
    if finished is None:
        return None
    return units.duration((datetime.fromisoformat(finished) - datetime.fromisoformat(created)).total_seconds())


def _accuracy(source: Source) -> dict[str, str] | None:
    evaluation = source.evaluation()
    if evaluation is None:
        return None
    low, high = (units.percent(bound, evaluation.n) for bound in evaluation.interval)
    return {
        "name": "Accuracy",
        "value": units.percent(evaluation.top1, evaluation.n),
        "note": f"95{units.SPACE}% interval {low} to {high}, on {units.count(evaluation.n)} {source.tested_on} images",
    }


def _size(source: Source) -> dict[str, str] | None:
    export = source.table("export.json") or {}
    if not export.get("size_bytes"):
        return None
    return {
        "name": "Size",
        "value": units.size(export["size_bytes"]),
        "note": f"{export['path']} in 32-bit floats, resize and labels inside",
    }


def _latency(source: Source) -> dict[str, str] | None:
    row = speed.fastest(source)
    if row is None:
        return None
    return {"name": "Latency", "value": units.latency(row["median_ms"] / 1e3), "note": f"median for one image in {row['label']}"}


def _bits(source: Source) -> dict[str, str] | None:
    found = bits.read(source)
    if found is None:
        return None
    if found.chosen is None:
        return {"name": "Bits", "value": "32", "note": f"nothing smaller stays within {found.max_drop:g} points"}
    return {
        "name": "Bits",
        "value": f"{found.chosen['bits']:g}",
        "note": f"{found.chosen['format']} in emulation; the file keeps 32-bit floats",
    }


def _lost(measured: Mapping[str, Any]) -> str:
    drop = float(measured["drop"])
    if abs(drop) < 0.005:
        return "no accuracy lost"
    return f"{abs(drop):.2f} points {'lost' if drop > 0 else 'gained'}"


def _verdict(source: Source) -> dict[str, str] | None:
    """Judge against the limit, with what the images can tell."""
    found = bits.read(source)
    if found is None:
        return None
    limit = f"{found.max_drop:g} points"
    if found.chosen is None:
        words = f"No format that was tried stays within the limit of {limit}; the network keeps its 32-bit floats."
        return {"mark": "no", "words": words, "caution": ""}
    chosen = f"{found.chosen['bits']:g} bits ({found.chosen['format']})"
    tried = f"{_lost(found.chosen)} on {units.count(found.chosen['n'])} {found.images} images"
    confirmed = found.stored.get("confirmed")
    if not confirmed:
        return {
            "mark": "yes",
            "words": f"Within your limit of {limit}: {chosen}, {tried}.",
            "caution": _caution(found.chosen, found.max_drop),
        }
    seen = f"{_lost(confirmed)} on {units.count(confirmed['n'])} test images that the search did not see"
    if found.holds(confirmed):
        words = f"Within your limit of {limit}: {chosen}, {seen}."
        return {"mark": "yes", "words": words, "caution": _caution(confirmed, found.max_drop)}
    words = f"Not confirmed: {chosen} kept the limit of {limit} with {tried}, but {seen}."
    return {"mark": "no", "words": words, "caution": _caution(confirmed, found.max_drop)}


def _caution(measured: Mapping[str, Any], max_drop: float) -> str:
    high = float(measured["drop_high"])
    if high <= max_drop:
        return ""
    return f"On other images the drop may reach {high:.1f} points (95{units.SPACE}% interval)."
