"""Accuracy against bits, and what rounding did over a run, as pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from convsmith.errors import UsageError
from convsmith.precision.curves import series
from convsmith.precision.scoring import Point

COUNTED: Final = ("overflow", "underflow", "saturation", "stagnation", "flips", "dead")
STYLES: Final = {"weight": "--", "activation": ":", "both": "-"}


def plot(points: Sequence[Point], path: Path | str, *, max_drop: float | None = None) -> Path:
    """Draw accuracy against bits, one panel a family, a line each for weights, activations and both, with 95 % bars; write PNG or SVG.

    Needs no display.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not points:
        raise UsageError("no points to plot; sweep first")
    curves = series(points)
    families = list(dict.fromkeys(curve["family"] for curve in curves))
    figure = Figure(figsize=(3.2 * len(families) + 0.6, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(families), sharey=True, squeeze=False)[0]
    baseline = 100 * points[0].accuracy + points[0].drop
    for panel, family in zip(panels, families, strict=True):
        panel.axhline(baseline, color="0.5", linewidth=0.8, label="float32")
        if max_drop is not None:
            panel.axhline(baseline - max_drop, color="0.5", linewidth=0.8, linestyle="--", label=f"{max_drop:g} points below")
        for curve in (c for c in curves if c["family"] == family):
            y = [100 * value for value in curve["accuracy"]]
            bars = (
                [max(0.0, high - drop) for high, drop in zip(curve["high"], curve["drop"], strict=True)],
                [max(0.0, drop - low) for low, drop in zip(curve["low"], curve["drop"], strict=True)],
            )
            panel.errorbar(
                curve["bits"], y, yerr=bars, linestyle=STYLES[curve["tensors"]], marker="o", markersize=3, capsize=2, label=curve["tensors"]
            )
        panel.set_title(family)
        panel.set_xlabel("bits of one value")
    panels[0].set_ylabel("accuracy, %")
    panels[-1].legend(fontsize="small")
    figure.savefig(path, dpi=150)
    return Path(path)


def plot_counts(rows: Sequence[Mapping[str, Any]], path: Path | str) -> Path:
    """Draw the rows of ``Counters.to_list``: the part of a tensor's values against the update, a panel for each thing counted.

    The eight tensors with most of it have a line each, the others none. Needs no display. Writes PNG or SVG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not rows:
        raise UsageError("nothing was counted; train under a plan with count_every above 0")
    figure = Figure(figsize=(18, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(COUNTED), squeeze=False)[0]
    for panel, what in zip(panels, COUNTED, strict=True):
        curves: dict[str, dict[int, float]] = {}
        for row in rows:
            curve = curves.setdefault(f"{row['layer']} {row['role']} {row['tensor']}", {})
            # a tensor has a row for each of its roundings in an update, and one of its stagnation: the largest part is the point
            curve[row["step"]] = max(curve.get(row["step"], 0.0), 100 * row[what] / max(1, row["n"]))
        worst = sorted((name for name in curves if any(curves[name].values())), key=lambda name: -max(curves[name].values()))[:8]
        for name in worst:
            panel.plot(list(curves[name]), list(curves[name].values()), marker=".", markersize=3, linewidth=1, label=name)
        panel.set_title(what)
        panel.set_xlabel("update")
        if worst:
            panel.legend(fontsize="xx-small")
    panels[0].set_ylabel("% of the tensor")
    figure.savefig(path, dpi=150)
    return Path(path)
