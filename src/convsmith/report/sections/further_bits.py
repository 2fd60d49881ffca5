"""What was found beyond one format for all: bits by layer, curves by moment of rounding, bits of training, schedules."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from convsmith.report import units
from convsmith.report.charts import Curve, Option, line_chart, trade_chart
from convsmith.report.source import Source

SHOWN_LAYERS = 60


def build(source: Source) -> list[dict[str, Any]]:
    """Return the parts that the run has, each with its title, sentences, charts and table."""
    parts: list[tuple[str, Callable[[Mapping[str, Any]], dict[str, Any]]]] = [
        ("search.json", layers),
        ("sweep.json", sweep),
        ("training_search.json", training),
        ("schedule.json", schedule),
    ]
    found = [(make, source.table(name)) for name, make in parts]
    return [make(stored) for make, stored in found if stored is not None]


def layers(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The search by layers: sensitivity, cost against drop, the format of each tensor."""
    cost, chosen, uniform = stored["cost"], stored["chosen"], stored["uniform"]
    told = [
        f"{stored['evaluations']:.3g} passes over {units.count(stored['n'])} images, {stored['uniform_evaluations']:.3g} more for one "
        f"format; one backward pass scored all layers. Cost: {cost['name']} in {cost['unit']}, {cost['float32']:.4g} in 32-bit floats."
    ]
    if chosen:
        told.append(f"Chosen: {chosen['format']}, cost {chosen['cost']:.4g}, change {units.points(-chosen['drop'] / 100)} points.")
    if uniform:
        told.append(
            f"One format for all layers: {uniform['format']}, cost {uniform['cost']:.4g}, change {units.points(-uniform['drop'] / 100)}."
        )
    numbered = list(range(1, len(stored["layers"]) + 1))
    names = list(dict.fromkeys(fmt for row in stored["layers"] for fmt in row["noise"]))
    curves = [Curve(fmt, numbered, [_log(row["noise"].get(fmt)) for row in stored["layers"]]) for fmt in names[:6]]
    noise = line_chart(curves, x_label="tensor, from the input on", y_label="log10 of noise", label="Sensitivity of each tensor by format")
    options = [
        Option("by layers" if p["family"] == "layers" else "one format", str(p["format"]), float(p["cost"]), float(p["accuracy"]))
        for p in stored["points"]
        if p.get("cost") is not None
    ]
    biggest = max((option.x for option in options), default=1.0)
    scaled = [Option(o.family, o.name, 100 * o.x / biggest, o.y) for o in options]
    trade = trade_chart(
        scaled, x_label="cost, % of the dearest tried", y_label="accuracy", label="Accuracy against cost", y_format=units.axis_percent
    )
    rows = [[row["layer"], row["role"], row["format"], units.count(row["numbers"])] for row in stored["layers"]]
    return _part(
        "Bits by layer",
        [*told, *stored["notes"]],
        [("Sensitivity of each tensor", noise), ("Accuracy against cost", trade)],
        ["Layer", "Tensor", "Format", "Numbers"],
        rows[:SHOWN_LAYERS],
    )


def sweep(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Curves by the moment of rounding, and how errors grow along the network."""
    points, charts = stored["points"], []
    for model in dict.fromkeys(point["model"] for point in points):
        for variable in stored["variables"]:
            mine = [p for p in points if p["model"] == model and p["variable"] == variable]
            curves = [_curve([p for p in mine if p["moment"] == when], when) for when in dict.fromkeys(p["moment"] for p in mine)]
            title = f"{model}: {variable} bits"
            charts.append(
                (
                    title,
                    line_chart(
                        curves, x_label=f"{variable} bits", y_label="accuracy", label=title, y_format=units.axis_percent, y_most=1.0
                    ),
                )
            )
    charts += _errors(stored)
    how = "trained under each format" if stored["training"] else "the trained network, rounded"
    told = [f"Rounded at every operation, at each layer or at each batch; {how}; rounding {stored['rounding'].replace('_', ' ')}."]
    rows = [[r["model"], r["variable"], r["moment"], "none" if r["bits"] is None else str(r["bits"])] for r in stored["fewest"]]
    head = ["Model", "Bits", "Rounded at each", f"Fewest within {stored['max_drop']:g} points"]
    return _part("Where rounding happens", told, charts, head, rows)


def _errors(stored: Mapping[str, Any]) -> list[tuple[str, Any]]:
    charts = []
    growth, shape = stored["growth"], stored["depth_and_width"]
    if growth:
        kinds = list(dict.fromkeys(row["bits"] for row in growth))
        curves = [_error_curve([row for row in growth if row["bits"] == bits], f"{bits} bits") for bits in kinds]
        title = "Error against float64 along the network"
        charts.append((title, line_chart(curves, x_label="layer", y_label="log10 of relative error", label=title)))
    for width in dict.fromkeys(row["width"] for row in shape):
        mine = [row for row in shape if row["width"] == width]
        kinds = list(dict.fromkeys(row["bits"] for row in mine))
        curves = [_error_curve([row for row in mine if row["bits"] == bits], f"{bits} bits") for bits in kinds]
        title = f"Error of perceptrons, {width} neurons a layer"
        charts.append((title, line_chart(curves, x_label="layers", y_label="log10 of relative error", label=title)))
    return charts


def training(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The fewest bits of everything a training stores."""
    told = [f"{len(stored['trials'])} trainings, together {stored['spent']:.1f} full runs."]
    rows = []
    if stored["bits"] is not None:
        rows = [[role.replace("_", " "), fmt, stored["alone"].get(role, "")] for role, fmt in stored["formats"].items()]
        mean, low, high = stored["interval"]
        told.append(
            f"Trained in full with {len(stored['drops'])} seeds, the mean drop against 32-bit floats is {mean:.2f} points "
            f"(95 %: {low:.2f} to {high:.2f}), allowed {stored['max_drop']:g}."
        )
    return _part("Bits of training", [*told, *stored["notes"]], [], ["What", "Format", "Alone would do"], rows)


def schedule(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Schedules of precision beside constant ones."""
    charts = []
    for key, label in (("loss", "loss of training"), ("accuracy", "validation accuracy")):
        curves = [Curve(c["name"], list(range(1, len(c[key]) + 1)), c[key]) for c in stored["curves"] if c[key]]
        charts.append((label.capitalize(), line_chart(curves, x_label="epoch", y_label=label, label=f"{label} over epochs, by plan")))
    rows = [
        [
            row["name"],
            f"{row['accuracy'][0]:.2f} ({row['accuracy'][1]:.2f} to {row['accuracy'][2]:.2f})",
            f"{row['drop'][0]:+.2f} ({row['drop'][1]:+.2f} to {row['drop'][2]:+.2f})",
            f"{row['cost'] / stored['rows'][0]['cost']:.0%}",
        ]
        for row in stored["rows"]
    ]
    head = ["Plan", "Accuracy, % (95 %)", "Drop in points (95 %)", "Bit operations"]
    return _part("Precision over a training", [*stored["notes"], stored["hypothesis"]], charts, head, rows)


def _part(
    title: str, told: Sequence[str], charts: Sequence[tuple[str, Any]], head: Sequence[str], rows: Sequence[Sequence[str]]
) -> dict[str, Any]:
    drawn = [{"title": name, "svg": svg} for name, svg in charts if svg]
    return {"title": title, "told": list(told), "charts": drawn, "head": list(head), "rows": [list(row) for row in rows]}


def _curve(points: Sequence[Mapping[str, Any]], name: str) -> Curve:
    ordered = sorted(points, key=lambda point: point["bits"])
    return Curve(name, [float(p["bits"]) for p in ordered], [float(p["accuracy"]) for p in ordered])


def _error_curve(rows: Sequence[Mapping[str, Any]], name: str) -> Curve:
    return Curve(name, [float(row["depth"]) for row in rows], [_log(row["error"]) for row in rows])


def _log(value: float | None) -> float | None:
    return None if value is None or value <= 0 else math.log10(value)
