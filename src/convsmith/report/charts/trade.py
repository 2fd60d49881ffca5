"""One quantity bought with another: accuracy against bits, with the limit and the chosen point."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from convsmith.report.charts.axes import HEIGHT, LEFT, RIGHT, WIDTH, Scale, frame, legend, mark, plot_scales, style_of, ticks, whole_ticks
from convsmith.report.charts.svg import GLYPH_PX, canvas, element, text


@dataclass(frozen=True)
class Option:
    """One point of the trade: ``family`` gives colour and shape, ``name`` its tooltip."""

    family: str
    name: str
    x: float
    y: float


def trade_chart(
    options: Sequence[Option],
    *,
    x_label: str,
    y_label: str,
    label: str,
    chosen: Option | None = None,
    levels: Sequence[tuple[str, float]] = (),
    y_format: Callable[[float], str] = "{:g}".format,
    families: Sequence[str] = (),
) -> Markup:
    """Draw options as points, each family joined by its best option per ``x``; ``levels`` are named horizontal lines.

    ``families``: all families of several charts, so that each looks the same in all of them.
    """
    if not options:
        return Markup("")
    y_values = [option.y for option in options] + [value for _, value in levels]
    x_values = [option.x for option in options]
    y_ticks = ticks(min(y_values), max(y_values))
    x, y = plot_scales((min(x_values) - 0.5, max(x_values) + 0.5), (y_ticks[0], y_ticks[-1]))
    parts = [frame(x, y, whole_ticks(min(x_values), max(x_values), 8), y_ticks, x_label, y_label, y_format)]
    parts += _level_lines(levels, x, y)
    families = list(dict.fromkeys([*families, *(option.family for option in options)]))
    for index, family in enumerate(families):
        own = [option for option in options if option.family == family]
        parts += [*_line(own, index, x, y), *_points(own, index, x, y)]
    return _whole(parts, families, chosen, x, y, label)


def frontier_chart(
    options: Sequence[Option],
    best: Sequence[Option],
    *,
    x_label: str,
    y_label: str,
    label: str,
    chosen: Option | None = None,
    levels: Sequence[tuple[str, float]] = (),
    y_format: Callable[[float], str] = "{:g}".format,
) -> Markup:
    """Draw options as points by family, and a stepped line along the ``best``: what is reached at least, for each ``x``."""
    if not options:
        return Markup("")
    y_values = [option.y for option in options] + [value for _, value in levels]
    x_ticks, y_ticks = ticks(0.0, max(option.x for option in options)), ticks(min(y_values), max(y_values))
    x, y = plot_scales((0.0, x_ticks[-1]), (y_ticks[0], y_ticks[-1]))
    parts = [frame(x, y, x_ticks, y_ticks, x_label, y_label, y_format), *_level_lines(levels, x, y)]
    reached, corners = -math.inf, list[str]()
    for option in sorted(best, key=lambda option: (option.x, -option.y)):
        if option.y > reached:
            corners += ([f"{x(option.x):.2f},{y(reached):.2f}"] if corners else []) + [f"{x(option.x):.2f},{y(option.y):.2f}"]
            reached = option.y
    if len(corners) > 1:
        parts.append(element("polyline", points=" ".join(corners), class_="line thin series-1"))
    families = list(dict.fromkeys(option.family for option in options))
    for index, family in enumerate(families):
        parts += _points([option for option in options if option.family == family], index, x, y)
    return _whole(parts, families, chosen, x, y, label)


def _whole(parts: Sequence[Markup], families: Sequence[str], chosen: Option | None, x: Scale, y: Scale, label: str) -> Markup:
    ring = [] if chosen is None else [_chosen(chosen, x, y)]
    return canvas(WIDTH, HEIGHT, *parts, *ring, legend(families, marks=True), label=label)


def _points(options: Sequence[Option], index: int, x: Scale, y: Scale) -> list[Markup]:
    return [mark(index, x(o.x), y(o.y), 4, class_=f"mark {style_of(index)}", data_name=o.name) for o in options]


def _line(options: Sequence[Option], index: int, x: Scale, y: Scale) -> list[Markup]:
    """Join the best option of each ``x``; nothing for a single one."""
    best: dict[float, float] = {}
    for option in options:
        best[option.x] = max(option.y, best.get(option.x, option.y))
    line = " ".join(f"{x(a):.2f},{y(b):.2f}" for a, b in sorted(best.items()))
    return [element("polyline", points=line, class_=f"line thin {style_of(index)}")] if len(best) > 1 else []


def _level_lines(levels: Sequence[tuple[str, float]], x: Scale, y: Scale) -> list[Markup]:
    parts = []
    for index, (name, value) in enumerate(levels):
        above = index == 0 or y(value) + 18 > y.start  # below the axis stand its numbers
        parts.append(element("line", x1=x.start, x2=x.end, y1=y(value), y2=y(value), class_="level"))
        parts.append(text(x.end - 2, y(value) + (-8 if above else 14), name, anchor="end", class_="level-name"))
    return parts


def _chosen(option: Option, x: Scale, y: Scale) -> Markup:
    name = f"chosen: {option.name}"
    left, right = x(option.x) - GLYPH_PX * len(name) / 2, x(option.x) + GLYPH_PX * len(name) / 2
    centre = x(option.x) + max(0, LEFT + 4 - left) - max(0, right - (WIDTH - RIGHT))
    below = y(option.y) + 28 < y.start
    return element(
        "g",
        element("circle", cx=x(option.x), cy=y(option.y), r=9.0, class_="ring"),
        text(centre, y(option.y) + (26 if below else -16), name, anchor="middle", class_="strong"),
        class_="chosen",
    )
