"""Curves over epochs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from convsmith.report.charts.axes import HEIGHT, WIDTH, frame, legend, mark, plot_scales, style_of, ticks, whole_ticks
from convsmith.report.charts.svg import canvas, element


@dataclass(frozen=True)
class Curve:
    """A named line; a missing value (None or not finite) is passed over, for not every epoch is validated."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]

    def points(self) -> list[tuple[float, float]]:
        return [(x, y) for x, y in zip(self.x, self.y, strict=True) if y is not None and math.isfinite(y)]


def line_chart(
    curves: Sequence[Curve],
    *,
    x_label: str,
    y_label: str,
    label: str,
    y_format: Callable[[float], str] = "{:g}".format,
    y_zero: bool = False,
    y_most: float = math.inf,
) -> Markup:
    """Draw curves on one pair of axes; curves without a point are left out, ``""`` when none is left.

    ``y_zero``: the axis starts at 0. ``y_most``: the axis does not go beyond (1 for shares).
    """
    drawn = [(curve, curve.points()) for curve in curves if curve.points()]
    if not drawn:
        return Markup("")
    values = [y for _, points in drawn for _, y in points]
    y_ticks = [t for t in ticks(0 if y_zero else min(values), max(values)) if t <= max(y_most, max(values))]
    xs = [x for _, points in drawn for x, _ in points]
    x, y = plot_scales((min(xs), max(xs)), (min(y_ticks[0], min(values)), max(y_ticks[-1], max(values))))
    parts = [frame(x, y, whole_ticks(min(xs), max(xs)), y_ticks, x_label, y_label, y_format)]
    for index, (_, points) in enumerate(drawn):
        style = style_of(index)
        if len(points) > 1:
            parts.append(element("polyline", points=" ".join(f"{x(a):.2f},{y(b):.2f}" for a, b in points), class_=f"line {style}"))
        if len(points) <= 30:
            parts += [mark(index, x(a), y(b), 2.6, class_=f"mark {style}") for a, b in points]
    if len(drawn) > 1:
        parts.append(legend([curve.name for curve, _ in drawn]))
    return canvas(WIDTH, HEIGHT, *parts, label=label)
