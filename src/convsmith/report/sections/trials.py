"""The trials of a sweep: which settings gave what, the best, and which setting mattered."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from convsmith.report import units
from convsmith.report.charts import Upright, parallel_chart, share_bar
from convsmith.report.source import Source

#: So many trials are in the table; all are in sweep.json.
SHOWN = 200
#: A list of numbers is drawn as choices up to so many, beyond that as a scale.
CHOICES = 12


def build(source: Source) -> dict[str, Any] | None:
    """Return table, picture and shares of a sweep, the best trial first."""
    stored = source.table("sweep.json")
    if stored is None:
        return None
    rows, best, names = stored["rows"], stored["best"], [axis["name"] for axis in stored["axes"]]
    sign = -1 if stored["spec"]["direction"] == "maximize" else 1
    ordered = sorted(rows, key=lambda row: (row["value"] is None, sign * row["value"] if row["value"] is not None else 0.0, row["trial"]))
    states = [row["state"] for row in rows]
    return {
        "metric": stored["spec"]["metric"],
        "sampler": stored["spec"]["sampler"],
        "counts": ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states)),
        "names": names,
        "best": None if best is None else best["trial"],
        "rows": [_row(row, names, stored["spec"]["metric"]) for row in ordered[:SHOWN]],
        "more": max(0, len(rows) - SHOWN),
        "chart": _chart(stored, ordered, sign),
        "importance": [
            {"name": name, "share": units.percent(share), "bar": share_bar([share])} for name, share in stored["importance"].items()
        ],
    }


def _row(row: Mapping[str, Any], names: Sequence[str], metric: str) -> dict[str, Any]:
    run = row.get("run")
    share = metric.endswith("accuracy") or metric.startswith("top")
    tell = units.percent if share else units.digits3
    value = _value(row)
    return {
        "trial": row["trial"],
        "state": row["state"],
        "params": [_short(row["params"].get(name, "")) for name in names],
        "value": "" if value is None else tell(value),
        "epochs": row["epochs"],
        "took": "" if row["seconds"] is None else units.duration(row["seconds"]),
        "run": Path(run).name if run else "",
        "error": row["error"] or "",
    }


def _chart(stored: Mapping[str, Any], ordered: Sequence[Mapping[str, Any]], sign: int) -> Any:
    names = [axis["name"] for axis in stored["axes"]]
    known = [
        row for row in ordered if _value(row) is not None and row["state"] != "failed" and all(name in row["params"] for name in names)
    ]
    ended = [float(row["value"]) for row in known if row["value"] is not None]
    if not ended:
        return ""
    values = [float(_value(row)) for row in known]
    axes = [_axis(axis) for axis in stored["axes"]] + [Upright(stored["spec"]["metric"], (), min(values), max(values))]
    middle = sign * median(ended)
    lines = []
    for place, (row, value) in enumerate(zip(known, values, strict=True)):
        group = 3 if row["value"] is None else 0 if place == 0 else 1 if sign * value <= middle else 2
        lines.append(([*(row["params"][name] for name in names), value], group))
    label = (
        f"{len(known)} trials: their settings and {stored['spec']['metric']}, {units.digits3(min(values))} to {units.digits3(max(values))}"
    )
    return parallel_chart(axes, lines, label=label)


def _short(setting: Any) -> str:
    return f"{setting:.4g}" if isinstance(setting, float) else str(setting)


def _value(row: Mapping[str, Any]) -> Any:
    return row["value"] if row["value"] is not None else row["reached"]


def _axis(axis: Mapping[str, Any]) -> Upright:
    values = axis["values"]
    if not values:
        return Upright(axis["name"], (), axis["low"], axis["high"], axis["log"])
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    if numbers and len(values) > CHOICES:
        low, high = min(values), max(values)
        return Upright(axis["name"], (), low, high, low > 0 and math.log10(high / low) > 1.5)
    return Upright(axis["name"], tuple(map(str, sorted(values) if numbers else values)))
