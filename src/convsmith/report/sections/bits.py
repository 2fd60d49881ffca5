"""Accuracy against bits: what was tried, what the limit was, what was chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from convsmith.report import units
from convsmith.report.charts import Option, trade_chart
from convsmith.report.sections import further_bits
from convsmith.report.source import Source

TENSORS = {"both": "Weights and activations", "weight": "Weights alone", "activation": "Activations alone"}


@dataclass(frozen=True)
class Bits:
    """precision.json, which is ``stored``. ``baseline`` is the share right in float32; drops and ``max_drop`` are in points."""

    baseline: float
    max_drop: float
    n: int
    points: tuple[Mapping[str, Any], ...]
    chosen: Mapping[str, Any] | None
    stored: Mapping[str, Any]

    @property
    def limit(self) -> float:
        return self.baseline - self.max_drop / 100

    @property
    def nearby(self) -> float:
        """The lowest accuracy that is near the limit."""
        return self.baseline - max(4 * self.max_drop, 2) / 100

    def falls(self, tensors: str) -> bool:
        """Tell whether a curve falls so deep that one cannot see what happens near the limit."""
        lowest = min((float(point["accuracy"]) for point in self.points if point["tensors"] == tensors), default=1.0)
        return self.baseline - lowest > 3 * (self.baseline - self.nearby)

    @property
    def images(self) -> str:
        """What the images of the search are called."""
        return {"val": "validation", "test": "test"}.get(str(self.stored.get("part")), "other")

    def holds(self, point: Mapping[str, Any]) -> bool:
        """Tell whether the observed drop is within the limit."""
        return float(point["drop"]) <= self.max_drop + 1e-9


def read(source: Source) -> Bits | None:
    """Return the search for bits of the run, None when there was none."""
    stored = source.table("precision.json")
    if stored is None or not stored.get("points"):
        return None
    points = tuple(stored["points"])
    chosen = next((point for point in points if point["format"] == stored["chosen"]), None)
    return Bits(float(stored["baseline"]), float(stored["max_drop"]), int(stored["n"]), points, chosen, stored)


def build(source: Source) -> dict[str, Any] | None:
    """Return the plots and the table of formats."""
    bits, further = read(source), further_bits.build(source)
    if bits is None:
        return {"tried": False, "further": further} if further else None
    kinds = [key for key in TENSORS if any(point["tensors"] == key for point in bits.points)]
    return {
        "tried": True,
        "further": further,
        "charts": [{"title": TENSORS[key], "svg": _chart(bits, key, near=False)} for key in kinds] + _close_up(bits),
        "baseline": units.percent(bits.baseline, bits.n),
        "max_drop": f"{bits.max_drop:g}",
        "n": units.count(bits.n),
        "chosen": bits.chosen and {"name": bits.chosen["format"], "bits": bits.chosen["bits"], "tensors": TENSORS[bits.chosen["tensors"]]},
        "images": bits.images,
        "weights": [units.size(bits.stored.get(key)) for key in ("weight_bytes", "float32_weight_bytes")],
        "confirmed": _confirmed(bits),
        "rows": [_row(bits, point) for point in sorted(bits.points, key=lambda point: (point["bits"], point["drop"]))],
    }


def _confirmed(bits: Bits) -> dict[str, str] | None:
    found = bits.stored.get("confirmed")
    if not found:
        return None
    n = int(found["n"])
    change, worst, best = (units.points(-found[key] / 100) for key in ("drop", "drop_high", "drop_low"))
    before, after = units.percent(found["baseline"], n), units.percent(found["accuracy"], n)
    return {"n": units.count(n), "before": before, "after": after, "change": change, "worst": worst, "best": best}


def _row(bits: Bits, point: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": point["format"],
        "family": point["family"],
        "bits": f"{point['bits']:g}",
        "accuracy": units.percent(point["accuracy"], bits.n),
        "change": units.points(-point["drop"] / 100),
        "interval": f"{units.points(-point['drop_high'] / 100)} to {units.points(-point['drop_low'] / 100)}",
        "within": bits.holds(point),
        "chosen": point is bits.chosen,
    }


def _options(bits: Bits, tensors: str) -> dict[int, Option]:
    """Map positions in ``bits.points`` to what the chart draws."""
    found = {}
    for index, point in enumerate(bits.points):
        if point["tensors"] == tensors:
            found[index] = Option(str(point["family"]), str(point["format"]), float(point["bits"]), float(point["accuracy"]))
    return found


def _chart(bits: Bits, tensors: str, *, near: bool) -> Markup:
    options = _options(bits, tensors)
    if near:
        options = {index: option for index, option in options.items() if option.y >= bits.nearby}
    chosen = next((option for index, option in options.items() if bits.points[index] is bits.chosen), None)
    levels: Sequence[tuple[str, float]] = [("32-bit floats", bits.baseline)]
    if near or not bits.falls(tensors):
        levels = [*levels, (f"limit: {bits.max_drop:g} points less", bits.limit)]
    label = (
        f"Accuracy against bits, {TENSORS[tensors].lower()}, {len(options)} formats; 32-bit floats {units.percent(bits.baseline, bits.n)}"
    )
    return trade_chart(
        list(options.values()),
        x_label="bits of one value",
        y_label="accuracy",
        label=label + (f"; chosen: {chosen.name}, {units.percent(chosen.y, bits.n)}" if chosen else ""),
        chosen=chosen,
        levels=levels,
        y_format=units.axis_percent,
        families=list(dict.fromkeys(str(point["family"]) for point in bits.points)),
    )


def _close_up(bits: Bits) -> list[dict[str, Any]]:
    """The formats near the limit, where a whole curve shows no difference."""
    tensors = str(bits.chosen["tensors"]) if bits.chosen else "both"
    svg = _chart(bits, tensors, near=True) if bits.falls(tensors) else ""
    return [{"title": f"{TENSORS[tensors]}, close to the limit", "svg": svg}] if svg else []
