"""Bars: shares beside table rows, reliability by confidence, latencies with their quartiles."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from convsmith.analysis import wilson
from convsmith.report.charts.axes import HEIGHT, WIDTH, Scale, frame, plot_scales, style_of, ticks
from convsmith.report.charts.svg import canvas, element, shorten, text
from convsmith.report.units import axis_percent


def share_bar(parts: Sequence[float], width: float = 120, height: float = 10.0) -> Markup:
    """Draw parts of a whole 0..1 end to end; the table cell beside it has the numbers, so it is hidden from screen readers."""
    x, drawn = 0.0, []
    for index, part in enumerate(parts):
        length = max(0.0, min(part, 1.0)) * width
        drawn.append(element("rect", x=x, y=0, width=length, height=height, class_=f"fill {style_of(index)}"))
        x += length
    return element(
        "svg", *drawn, class_="bar", viewBox=f"0 0 {width:g} {height:g}", width=f"{width:g}", height=f"{height:g}", aria_hidden="true"
    )


def reliability_chart(bins: Sequence[Mapping[str, Any]], *, label: str) -> Markup:
    """Draw the share that was right in each confidence bin, with its 95 % interval, against the diagonal of perfect calibration."""
    if not any(item["count"] for item in bins):
        return Markup("")
    y_ticks = [0, 0.2, 0.4, 0.6, 0.8, 1]
    x, y = plot_scales((0, 1), (0, 1))
    parts = [frame(x, y, y_ticks, y_ticks, "confidence of the network", "share that was right", axis_percent)]
    for item in bins:
        if item["count"]:
            left, right = x(item["low"]) + 1, x(item["high"]) - 1
            height = y(0) - y(item["accuracy"])
            least, best = wilson(round(item["accuracy"] * item["count"]), item["count"])
            told = f"confidence {item['confidence']:.0%}, right {item['accuracy']:.0%}, images {item['count']:,}"
            parts.append(
                element(
                    "rect",
                    element("title", told),
                    x=left,
                    y=y(item["accuracy"]),
                    width=right - left,
                    height=max(height, 1.5),
                    class_="fill pale series-1",
                )
            )
            parts.append(_whisker(y, least, best, (left + right) / 2))
    parts.append(element("line", x1=x(0), y1=y(0), x2=x(1), y2=y(1), class_="level"))
    return canvas(WIDTH, HEIGHT, *parts, label=label)


def _whisker(y: Scale, low: float, high: float, at: float) -> Markup:
    ends = [element("line", x1=at - 3, x2=at + 3, y1=y(value), y2=y(value), class_="whisker") for value in (low, high)]
    return element("g", element("line", x1=at, x2=at, y1=y(low), y2=y(high), class_="whisker"), *ends)


@dataclass(frozen=True)
class Spread:
    """A measured quantity: median within its quartiles."""

    name: str
    low: float
    median: float
    high: float


def spread_chart(rows: Sequence[Spread], *, x_label: str, label: str, x_format: Callable[[float], str]) -> Markup:
    """Draw medians as bars from zero with a whisker from the first to the third quartile."""
    if not rows:
        return Markup("")
    row_px, left = 34.0, 130.0
    bottom = 30.0 + row_px * len(rows)
    x_ticks = ticks(0, max(row.high for row in rows), 4)
    x = Scale(0, x_ticks[-1], left, WIDTH - 24)
    parts = []
    for value in x_ticks:
        parts.append(element("line", x1=x(value), x2=x(value), y1=16.0, y2=bottom, class_="grid"))
        parts.append(text(x(value), bottom + 16, x_format(value), anchor="middle"))
    for index, row in enumerate(rows):
        top = 24 + row_px * index
        parts.append(text(left - 8, top + 15, shorten(row.name, 20), anchor="end"))
        parts.append(
            element("rect", x=left, y=top + 2, width=max(1.0, x(row.median) - left), height=16.0, class_=f"fill {style_of(index)}")
        )
        middle = top + 10
        parts.append(element("line", x1=x(row.low), x2=x(row.high), y1=middle, y2=middle, class_="whisker"))
        parts += [element("line", x1=x(at), x2=x(at), y1=middle - 4, y2=middle + 4, class_="whisker") for at in (row.low, row.high)]
    parts.append(text((left + WIDTH - 24) / 2, bottom + 36, x_label, anchor="middle", class_="axis-title"))
    return canvas(WIDTH, bottom + 44, *parts, label=label)
