"""Networks made from this one: how often each is right against how quick and small it is, and which one to take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from convsmith.report import units
from convsmith.report.charts import Option, frontier_chart
from convsmith.report.source import Source


def build(source: Source) -> dict[str, Any] | None:
    """Return the charts, the answer and the table."""
    found = source.table("shrink.json")
    if found is None or not found.get("points"):
        return None
    points = found["points"]
    chosen = next((point for point in points if point["name"] == found["chosen"]), None)
    base = next(point for point in points if point["name"] == "float32")
    return {
        "limits": _limits(found),
        "images": {"val": "validation"}.get(str(found["part"]), "test"),
        "n": units.count(found["n"]),
        "threads": found["threads"],
        "batch": found["batch"],
        "charts": [
            ("Time of one image", _chart(found, "ms", "milliseconds, one image")),
            ("Size of the file", _chart(found, "file_bytes", "kilobytes of the native program")),
        ],
        "chosen": chosen and _answer(chosen, base, found),
        "torch": [units.latency(found[key] / 1e3) for key in ("torch_ms", "torch_batch_ms")],
        "rows": [_row(point, found) for point in points if point["frontier"] or point is base],
        "others": [_row(point, found) for point in points if not point["frontier"] and point is not base],
        "notes": [str(note) for note in found.get("notes") or []],
    }


def _limits(found: Mapping[str, Any]) -> str:
    parts = [f"{found['max_drop']:g} points of accuracy lost"]
    if found["max_ms"] is not None:
        parts.append(f"{found['max_ms']:g} ms an image")
    if found["max_mb"] is not None:
        parts.append(f"{found['max_mb']:g} MB")
    return ", ".join(parts)


def _answer(chosen: Mapping[str, Any], base: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": str(chosen["name"]),
        "plain": chosen is base,
        "speed": units.ratio(base["ms"] / chosen["ms"]),
        "torch": units.ratio(found["torch_ms"] / chosen["ms"]),
        "smaller": units.ratio(base["file_bytes"] / chosen["file_bytes"]),
        **_measured(chosen),
        "images": "test" if chosen["test"] else "same",
        "folder": str(chosen["folder"]),
    }


def _measured(point: Mapping[str, Any]) -> dict[str, str]:
    """Tell how good a network is: on the test images where it was tested."""
    seen = point["test"] or point
    return {
        "accuracy": units.percent(seen["accuracy"], seen["n"]),
        "interval": f"{units.percent(seen['low'], seen['n'])} to {units.percent(seen['high'], seen['n'])}",
        "change": units.points(-seen["drop"] / 100),
    }


def _row(point: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": point["name"],
        "chosen": point["name"] == found["chosen"],
        **_measured(point),
        "one": units.latency(point["ms"] / 1e3),
        "many": units.latency(point["batch_ms"] / 1e3),
        "rate": f"{units.amount(point['images_per_s'])}/s",
        "file": units.size(point["file_bytes"]),
        "memory": units.size(point["memory_bytes"]),
        "energy": f"{units.digits3(point['energy_uj'])} µJ",
        "edits": len(point["edits"]),
        "within": point["within"],
    }


def _family(point: Mapping[str, Any]) -> str:
    kind = "float32" if point["plan"] == "float32" else "codes" if "int" in point["plan"] or "narrow" in point["plan"] else "16-bit weights"
    return f"{kind}, changed layers" if point["edits"] else kind


def _chart(found: Mapping[str, Any], key: str, x_label: str) -> Markup:
    unit = 1e3 if key.endswith("bytes") else 1.0
    pairs = [(p, Option(_family(p), str(p["name"]), p[key] / unit, float(p["accuracy"]))) for p in found["points"]]
    chosen = next((option for point, option in pairs if point["name"] == found["chosen"]), None)
    levels = [
        ("float32", float(found["baseline"])),
        (f"limit: {found['max_drop']:g} points less", found["baseline"] - found["max_drop"] / 100),
    ]
    label = f"Accuracy on {found['n']:,} images against {x_label}, {len(pairs)} networks"
    return frontier_chart(
        [option for _, option in pairs],
        [option for point, option in pairs if point["frontier"]],
        x_label=x_label,
        y_label="accuracy",
        label=label + (f"; chosen: {chosen.name}" if chosen else ""),
        chosen=chosen,
        levels=levels,
        y_format=units.axis_percent,
    )
