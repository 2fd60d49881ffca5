"""Many settings of many trials at once: one vertical axis a setting, one line a trial, the result on the last axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from convsmith.report.charts.axes import Scale, legend, mark, style_of, ticks
from convsmith.report.charts.svg import canvas, element, shorten, text

AXIS_PX, TOP_PX, HEIGHT_PX, SIDE_PX = 130.0, 62.0, 300.0, 60.0
#: The best one; those at least as good as the median; the others; those that were given up early.
GROUPS = ("best", "better half", "other half", "given up")


@dataclass(frozen=True)
class Upright:
    """An axis. ``choices``: the values in order, each at its own height; without them a scale of numbers, ``log`` in powers."""

    name: str
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 1.0
    log: bool = False

    def place(self, value: object) -> float:
        """Return the height of a value, 0 at the bottom to 1 at the top."""
        if self.choices:
            return (self.choices.index(str(value)) + 0.5) / len(self.choices)
        number, low, high = float(str(value)), self.low, self.high
        if self.log:
            number, low, high = math.log(number), math.log(low), math.log(high)
        return 0.5 if high == low else (number - low) / (high - low)

    def labels(self) -> list[tuple[float, str]]:
        """Return heights and texts of the marks along the axis."""
        if self.choices:
            return [(self.place(choice), shorten(choice, 10)) for choice in self.choices]
        if not self.log:
            return [(self.place(value), f"{value:g}") for value in ticks(self.low, self.high, 4) if self.low <= value <= self.high]
        powers = [10.0**power for power in range(math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9) + 1)]
        values = powers if len(powers) > 1 else [self.low, self.high]
        return [(self.place(value), f"{value:.2g}") for value in values]


def parallel_chart(axes: Sequence[Upright], lines: Sequence[tuple[Sequence[object], int]], *, label: str) -> Markup:
    """Draw each line, values in the order of the axes and the place of its group in `GROUPS`; ``""`` without lines or with one axis.

    The best lies on top, and groups differ by dash and by shape besides colour.
    """
    if not lines or len(axes) < 2:
        return Markup("")
    y = Scale(0, 1, TOP_PX + HEIGHT_PX, TOP_PX)
    across = [SIDE_PX + AXIS_PX * place for place in range(len(axes))]
    parts = [legend(GROUPS, x=SIDE_PX, y=14.0)]
    for values, group in sorted(lines, key=lambda line: -line[1]):
        points = [(x, y(axis.place(value))) for x, axis, value in zip(across, axes, values, strict=True)]
        told = ", ".join(f"{axis.name} {_short(value)}" for axis, value in zip(axes, values, strict=True))
        style = f"{style_of(group)}{'' if group == 0 else ' thin'}"
        path = " ".join(f"{a:.2f},{b:.2f}" for a, b in points)
        ends = [mark(group, a, b, 3.4 if group == 0 else 2.2, class_=f"mark {style_of(group)}") for a, b in points]
        parts.append(element("g", element("title", told), element("polyline", points=path, class_=f"line {style}"), *ends))
    for x, axis in zip(across, axes, strict=True):
        parts.append(element("line", x1=x, x2=x, y1=y(0), y2=y(1), class_="axis"))
        parts.append(text(x, TOP_PX - 14, shorten(axis.name.rpartition(".")[2], 18), anchor="middle", class_="axis-title"))
        parts += [text(x + 6, y(height) + 4, told) for height, told in axis.labels()]
    return canvas(across[-1] + SIDE_PX + 30, TOP_PX + HEIGHT_PX + 16, *parts, label=label)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
