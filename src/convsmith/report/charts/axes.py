"""Scales, round tick values and the frame of a chart: grid lines, tick labels, axis titles, legend."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from convsmith.report.charts.svg import GLYPH_PX, element, text

WIDTH, HEIGHT = 440.0, 280.0
LEFT, RIGHT, TOP, BOTTOM = 66.0, 14.0, 38.0, 44.0
SERIES = 5  # colours, dashes and point shapes before they repeat


def style_of(index: int) -> str:
    """Return the class that colours the series of that index."""
    return f"series-{index % SERIES + 1}"


@dataclass(frozen=True)
class Scale:
    """A linear map from ``low..high`` of the data to ``start..end`` of the picture."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about ``count`` values 1, 2 or 5 times a power of ten that cover ``low..high``, ends included."""
    if not high > low:
        high = low + (abs(low) or 1)
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def whole_ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Return ``ticks`` that are whole numbers within ``low..high`` (epochs, bits)."""
    step = max(1, round(ticks(0, max(1.0, high - low), count)[1]))
    return [value for value in range(0, math.floor(high) + 1, step) if value >= low] or [low]


def plot_scales(x: tuple[float, float], y: tuple[float, float]) -> tuple[Scale, Scale]:
    """Return the scales of a standard chart; an empty range gets some width."""
    x_low, x_high = x if x[1] > x[0] else (x[0] - 0.5, x[0] + 0.5)
    y_low, y_high = y if y[1] > y[0] else (y[0] - 0.5, y[0] + 0.5)
    return Scale(x_low, x_high, LEFT, WIDTH - RIGHT), Scale(y_low, y_high, HEIGHT - BOTTOM, TOP)


def frame(
    x: Scale, y: Scale, x_ticks: Sequence[float], y_ticks: Sequence[float], x_label: str, y_label: str, y_format: Callable[[float], str]
) -> Markup:
    """Return grid lines, tick labels and axis titles."""
    parts = []
    for value in y_ticks:
        parts.append(element("line", x1=x.start, x2=x.end, y1=y(value), y2=y(value), class_="grid"))
        parts.append(text(x.start - 7, y(value) + 4, y_format(value), anchor="end"))
    for value in x_ticks:
        parts.append(element("line", x1=x(value), x2=x(value), y1=y.start, y2=y.start + 4, class_="axis"))
        parts.append(text(x(value), y.start + 17, f"{value:g}", anchor="middle"))
    parts.append(element("line", x1=x.start, x2=x.end, y1=y.start, y2=y.start, class_="axis"))
    parts.append(text((x.start + x.end) / 2, y.start + 36, x_label, anchor="middle", class_="axis-title"))
    middle = (y.start + y.end) / 2
    parts.append(text(13, middle, y_label, anchor="middle", class_="axis-title", transform=f"rotate(-90 13 {middle:g})"))
    return element("g", *parts, class_="frame")


def mark(shape: int, x: float, y: float, radius: float = 4, **attributes: object) -> Markup:
    """Return a point: circle, square, triangle, diamond or a triangle on its tip, so that series differ by more than colour."""
    r = radius
    if shape % SERIES == 0:
        return element("circle", cx=float(x), cy=float(y), r=float(r), **attributes)
    corners = (
        [(-r * 0.9, -r * 0.9), (r * 0.9, -r * 0.9), (r * 0.9, r * 0.9), (-r * 0.9, r * 0.9)],
        [(0, -r * 1.15), (r * 1.1, r * 0.85), (-r * 1.1, r * 0.85)],
        [(0, -r * 1.3), (r * 1.3, 0), (0, r * 1.3), (-r * 1.3, 0)],
        [(0, r * 1.15), (r * 1.1, -r * 0.85), (-r * 1.1, -r * 0.85)],
    )[shape % SERIES - 1]
    return element("polygon", points=" ".join(f"{x + dx:.2f},{y + dy:.2f}" for dx, dy in corners), **attributes)


def legend(names: Sequence[str], *, marks: bool = False, x: float = LEFT, y: float = 12) -> Markup:
    """Return swatches and names, in a second line where they do not fit in one; ``marks`` shows point shapes in place of lines."""
    parts = []
    start = x
    for index, name in enumerate(names):
        style, offset = style_of(index), 18 if marks else 24
        if x > start and x + offset + GLYPH_PX * len(name) > WIDTH:
            x, y = start, y + 14
        if marks:
            parts.append(mark(index, x + 8, y - 4, class_=f"mark {style}"))
        else:
            parts.append(element("line", x1=float(x), x2=x + 18.0, y1=y - 4.0, y2=y - 4.0, class_=f"line {style}"))
        parts.append(text(x + offset, y, name))
        x += offset + 14 + GLYPH_PX * len(name)
    return element("g", *parts, class_="legend")
