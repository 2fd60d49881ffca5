"""Accuracy against bits: what was tried, what the limit was, what was chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from convsmith.report import units
from convsmith.report.charts import Option, trade_chart
from convsmith.report.source import Source


@dataclass(frozen=True)
class Bits:
    """precision.json as the page needs it. Accuracies are shares; ``max_drop`` is in points."""

    baseline: float
    max_drop: float
    n: int | None
    points: tuple[Mapping[str, Any], ...]
    chosen: Mapping[str, Any] | None

    @property
    def drop(self) -> float | None:
        """Points of accuracy the chosen format loses; negative when it gains."""
        return None if self.chosen is None else 100 * (self.baseline - float(self.chosen["accuracy"]))


def read(source: Source) -> Bits | None:
    """Return the sweep of the run, None when there was none."""
    stored = source.table("precision.json")
    if stored is None or not stored.get("points"):
        return None
    points = tuple(stored["points"])
    name = stored.get("chosen")
    chosen = next((point for point in points if point["format"] == name), None)
    return Bits(float(stored["baseline"]), float(stored["max_drop"]), stored.get("n"), points, chosen)


def build(source: Source) -> dict[str, Any] | None:
    """Return the plot and the table of formats."""
    bits = read(source)
    if bits is None:
        return None
    options = [Option(_family(p), str(p["format"]), float(p["bits"]), float(p["accuracy"])) for p in bits.points]
    limit = bits.baseline - bits.max_drop / 100
    chosen = next((option for option, point in zip(options, bits.points, strict=True) if point is bits.chosen), None)
    label = f"Accuracy against bits for {len(options)} formats; 32-bit floats reach {units.percent(bits.baseline, bits.n)}"
    label += f", chosen is {chosen.name} with {units.percent(chosen.y, bits.n)}." if chosen else ", none is within the limit."
    return {
        "chart": trade_chart(
            options,
            x_label="bits of each weight and activation",
            y_label="accuracy",
            label=label,
            chosen=chosen,
            levels=[("32-bit floats", bits.baseline), (f"limit: {bits.max_drop:g} points less", limit)],
            y_format=lambda share: f"{100 * share:.4g}{units.SPACE}%",
        ),
        "baseline": units.percent(bits.baseline, bits.n),
        "max_drop": f"{bits.max_drop:g}",
        "n": bits.n and units.count(bits.n),
        "chosen": chosen and chosen.name,
        "rows": [
            {
                "name": option.name,
                "family": option.family,
                "bits": f"{option.x:g}",
                "accuracy": units.percent(option.y, bits.n),
                "change": units.points(option.y - bits.baseline),
                "within": option.y >= limit - 1e-12,
                "chosen": option is chosen,
            }
            for option in sorted(options, key=lambda option: (option.x, -option.y))
        ],
    }


def _family(point: Mapping[str, Any]) -> str:
    family = point.get("family")
    if family:
        return str(family)
    name = str(point["format"])
    return "fixed point" if name.startswith("fixed") else "integer" if name.startswith("int") else "float"
