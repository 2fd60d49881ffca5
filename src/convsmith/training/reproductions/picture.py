"""Test errors of all arms as a picture: dots for seeds beside the paper's mark, or curves over bits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from convsmith.training.reproductions.paper import Experiment, Size
from convsmith.training.reproductions.running import Row
from convsmith.training.reproductions.tables import Line, lines


def plot(experiments: Sequence[Experiment], size: Size, rows: Sequence[Row], path: Path) -> Path:
    """Draw a panel for each experiment that has rows and write SVG or PNG; needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = [(experiment, found) for experiment in experiments if (found := lines(experiment, size, rows))]
    longest = max(len(found) for _, found in drawn)
    figure = Figure(figsize=(5.2 * len(drawn), 1.4 + 0.34 * longest), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(drawn), squeeze=False)[0]
    for panel, (experiment, found) in zip(panels, drawn, strict=True):
        panel.set_title(experiment.title, fontsize="small", wrap=True)
        if experiment.axis:
            _curves(panel, experiment, size, found)
        else:
            _dots(panel, found)
    figure.savefig(path, dpi=150)
    return path


def _dots(panel: Any, found: Sequence[Line]) -> None:
    for place, line in enumerate(found):
        panel.plot(line.errors, [place] * len(line.errors), "o", color="C0", markersize=5, label="ours, a seed each" if not place else None)
        if line.published is not None:
            panel.plot([line.published], [place], "x", color="C3", markersize=7, label="the paper" if not place else None)
    panel.set_yticks(range(len(found)), [line.arm for line in found], fontsize="small")
    panel.invert_yaxis()
    if max(line.mean for line in found) > 20:
        panel.set_xscale("log")
    panel.set_xlabel("test error, %")
    panel.legend(fontsize="x-small")


def _curves(panel: Any, experiment: Experiment, size: Size, found: Sequence[Line]) -> None:
    places = {arm.name: arm.x for arm in experiment.setup(size).arms}
    kinds: dict[str, list[tuple[float, float]]] = {}
    for line in found:
        x = places[line.arm]
        if x is not None:
            kinds.setdefault(line.arm.partition(",")[0], []).append((x, line.mean))
    for kind, points in kinds.items():
        if len(points) == 1:
            panel.axhline(points[0][1], color="0.5", linewidth=0.8, label=kind)
        else:
            panel.plot(*zip(*sorted(points), strict=True), marker="o", markersize=4, label=f"after {kind}")
    panel.set_xlabel(experiment.axis)
    panel.set_ylabel("test error, %")
    panel.set_yscale("log")
    panel.legend(fontsize="x-small")
