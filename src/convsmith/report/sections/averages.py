"""What it gains to look more than once at an image, or to average weights, against what it costs."""

from __future__ import annotations

from typing import Any

from convsmith.report import units
from convsmith.report.charts import Spread, spread_chart
from convsmith.report.source import Source


def build(source: Source) -> dict[str, Any] | None:
    """Return a row for each way of averaging, the plain answer first, and their costs as a chart."""
    found = source.table("averages.json")
    if found is None:
        return None
    n, rows = int(found["n"]), found["rows"]
    costs = [Spread(row["name"], row["ms"] / 1e3, row["ms"] / 1e3, row["ms"] / 1e3) for row in rows]
    told = "; ".join(f"{spread.name} {units.latency(spread.median)}" for spread in costs)
    return {
        "n": units.count(n),
        "images": "validation" if found["part"] == "val" else found["part"],
        "choice": None if found["choice"] == "plain" else found["choice"],
        "absent": sorted(found["absent"].items()),
        "notes": found["notes"],
        "chart": spread_chart(costs, x_label="time for one image", label=f"Time for one image: {told}", x_format=units.latency),
        "rows": [
            {
                "name": row["name"],
                "told": row["told"],
                "accuracy": units.percent(row["accuracy"], n),
                "gain": units.points(row["gain"] / 100),
                "interval": f"{units.points(row['gain_low'] / 100)} to {units.points(row['gain_high'] / 100)}",
                "time": units.latency(row["ms"] / 1e3),
                "cost": units.ratio(row["cost"]),
                "worth": row["worth"],
                "chosen": row["name"] == found["choice"],
            }
            for row in rows
        ],
    }
