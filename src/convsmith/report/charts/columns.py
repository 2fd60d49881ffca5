"""Counts in neighbouring classes as columns."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from convsmith.report.charts.axes import HEIGHT, WIDTH, frame, plot_scales, ticks
from convsmith.report.charts.svg import canvas, element, text


def column_chart(counts: Sequence[int], names: Sequence[str], *, threshold: int, x_label: str, y_label: str, label: str) -> Markup:
    """Draw a column a class; those from ``threshold`` on are of the first series, those before of the second. Nothing for no counts."""
    if not any(counts):
        return Markup("")
    y_ticks = ticks(0, max(counts), 4)
    x, y = plot_scales((0, len(counts)), (0, y_ticks[-1]))
    parts = [frame(x, y, [], y_ticks, x_label, y_label, "{:,.0f}".format)]
    for index, (count, name) in enumerate(zip(counts, names, strict=True)):
        style = "series-1" if index >= threshold else "series-2"
        left, right = x(index) + 2, x(index + 1) - 2
        told = element("title", f"{name}: {count:,}")
        parts.append(element("rect", told, x=left, y=y(count), width=right - left, height=y(0) - y(count), class_=f"fill {style}"))
        parts.append(text((left + right) / 2, y(0) + 16, name, anchor="middle"))
    return canvas(WIDTH, HEIGHT, *parts, label=label)


def small_histogram(counts: Sequence[int], *, label: str, width: float = 128, height: float = 30) -> Markup:
    """Draw counts of bins as columns without axes; heights go by the square root, so that a tail is seen. Nothing for no counts."""
    if not any(counts):
        return Markup("")
    step, most = width / len(counts), math.sqrt(max(counts))
    columns = [
        element("rect", x=index * step, y=height - tall, width=max(step - 0.5, 0.5), height=tall, class_="fill series-1")
        for index, count in enumerate(counts)
        if (tall := height * math.sqrt(count) / most) > 0
    ]
    return canvas(width, height, *columns, label=label, class_="chart small-histogram")
