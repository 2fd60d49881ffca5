"""What the network costs, in all and layer by layer."""

from __future__ import annotations

from typing import Any

from convsmith.report import units
from convsmith.report.charts import share_bar
from convsmith.report.source import Source


def build(source: Source) -> dict[str, Any] | None:
    """Return totals and one row a layer."""
    report = source.table("analysis.json")
    if report is None:
        return None
    nodes = report["layers"]
    macs, parameters = sum(node["macs"] for node in nodes), sum(node["parameters"] for node in nodes)
    peak = report.get("totals", {}).get("peak_activation_bytes")
    heaviest = max(nodes, key=lambda node: node["macs"], default=None)
    return {
        "parameters": units.amount(parameters),
        "weights": units.size(4 * parameters),
        "macs": units.amount(macs),
        "peak": peak and units.size(peak),
        "heaviest": heaviest and macs and {"name": heaviest["name"], "share": units.percent(heaviest["macs"] / macs)},
        "rows": [
            {
                "name": node["name"],
                "op": node["op"],
                "shape": units.shape(node["output_shape"][1:]),  # the first axis is the batch
                "parameters": units.amount(node["parameters"]),
                "macs": units.amount(node["macs"]),
                "bar": share_bar([node["macs"] / macs if macs else 0], 80),
                "activation": units.size(node["activation_bytes"]),
                "field": _field(node.get("field")),
            }
            for node in nodes
        ],
    }


def _field(field: Any) -> str:
    if not field:
        return units.MISSING
    rows, columns = field["size"]
    return f"{rows}" if rows == columns else units.shape([rows, columns])
