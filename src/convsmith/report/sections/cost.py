"""What the network costs, in all and layer by layer."""

from __future__ import annotations

from typing import Any

from convsmith.report import units
from convsmith.report.charts import share_bar
from convsmith.report.source import Source


def build(source: Source) -> dict[str, Any] | None:
    """Return totals and one row a node that has parameters, work or a changed receptive field."""
    report = source.table("analysis.json")
    if report is None:
        return None
    nodes = report["nodes"]
    macs, parameters = sum(node["macs"] for node in nodes), sum(node["parameters"] for node in nodes)
    peak = max((node["activation_bytes"] for node in nodes), default=0)
    heaviest = max(nodes, key=lambda node: node["macs"], default=None)
    return {
        "parameters": units.amount(parameters),
        "weights": units.size(4 * parameters),
        "macs": units.amount(macs),
        "peak": units.size(peak),
        "heaviest": heaviest and macs and {"name": heaviest["name"], "share": units.percent(heaviest["macs"] / macs)},
        "rows": [
            {
                "name": node["name"],
                "op": node["op"],
                "shape": units.shape(node["output_shape"]),
                "parameters": units.amount(node["parameters"]),
                "macs": units.amount(node["macs"]),
                "bar": share_bar([node["macs"] / macs if macs else 0], 80),
                "activation": units.size(node["activation_bytes"]),
                "field": _field(node.get("receptive_field")),
            }
            for node in nodes
        ],
    }


def _field(field: Any) -> str:
    if not field:
        return units.MISSING
    return units.shape(field["size"])
