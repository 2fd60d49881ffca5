"""What was proved about fewer bits: the images whose class cannot change, and the sums that cannot overflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from convsmith.report import units
from convsmith.report.charts import column_chart
from convsmith.report.source import Source

WHOSE = {"float32": "32-bit floats", "exact": "exact arithmetic"}
PROOFS = {"certain": "certain", "likely": "in probability", "none": "none"}


def build(source: Source) -> dict[str, Any] | None:
    """Return the shares, the room of all images, those with the least of it, and the widths of sums."""
    found = source.table("certificate.json")
    if found is None:
        return None
    n = int(found["n"])
    names = source.classes(1 + max((max(row["class"], row["rival"]) for row in found["least_room"]), default=0))
    names = (source.table("model.json") or {}).get("classes") or names
    return {
        "plan": str(found["plan_name"]),
        "n": units.count(n),
        "images": {"val": "validation"}.get(str(found["part"]), str(found["part"])),
        "whose": WHOSE[found["against"]],
        "certain": units.percent(found["certain"], n),
        "likely": units.percent(found["likely"], n),
        "failure": units.tiny(found["failure"]),
        "time": units.latency(found["seconds_per_image"]),
        "margin": units.digits3(found["margin"][1]),
        "bound": _bound(found["bound"][1]),
        "chart": _chart(found["room"], n),
        "reasons": [(str(reason), units.count(count)) for reason, count in found["reasons"].items()],
        "rows": [_row(row, names) for row in found["least_room"]],
        "widths": [_width(row) for row in found["widths"]],
    }


def _row(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, str]:
    return {
        "image": str(row["image"]),
        "class": str(names[row["class"]]),
        "rival": str(names[row["rival"]]),
        "margin": units.digits3(row["margin"]),
        "bound": _bound(row["bound"]),
        "proof": PROOFS[row["proof"]],
    }


def _bound(value: float | None) -> str:
    return "no bound" if value is None else units.digits3(value)


def _width(row: Mapping[str, Any]) -> dict[str, str]:
    low, high = row["input_codes"]
    codes = f"{units.digits3(low) if low else '0'} to {high:,}"
    return {
        "layer": str(row["layer"]),
        "terms": units.count(row["terms"]),
        "codes": codes,
        "bits": str(row["bits"]),
        "l1": str(row["l1_bits"]),
        "type": str(row["type_bits"]),
    }


def _chart(room: Mapping[str, Any], n: int) -> Markup:
    """Draw how many images have how much room; a margin above its bound is a proof."""
    ends = [f"{10**edge:.2g}" for edge in room["edges"]]
    names = [f"<{ends[0]}", *(f"–{end}" for end in ends[1:]), f">{ends[-1]}"]
    proved = sum(end <= 0 for end in room["edges"])
    return column_chart(
        room["counts"],
        names,
        threshold=proved,
        x_label="margin over bound; above 1 is a proof",
        y_label="images",
        label=f"Margin over bound of {n:,} images; {sum(room['counts'][proved:]):,} are above 1",
    )
