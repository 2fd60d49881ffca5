"""A network drawn: one box a layer that does work, one line a value, from the input at the top to the output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from convsmith.report.charts.svg import canvas, element, text

BOX_PX, ROW_PX, GAP_PX = 168.0, 38.0, 26.0
HIGH_PX = 24.0
LETTERS = 21


@dataclass(frozen=True)
class Box:
    """One layer: whose outputs it reads (names of boxes, "" for the input), what is told of it, and its colour.

    ``share``: of the whole, 0 to 1, the filled part of the box. ``series``: its colour, 0 to 4.
    """

    name: str
    sources: tuple[str, ...]
    title: str
    share: float = 0.0
    series: int = 0


def network_drawing(boxes: Sequence[Box], *, label: str) -> Markup:
    """Draw boxes in rows by how many layers lie before them at most; a line that passes rows bends around the boxes between.

    Nothing for no boxes. A source that has no box counts as the input.
    """
    if not boxes:
        return Markup("")
    rows = depths(boxes)
    places = positions(boxes, rows)
    width = max(x for x, _ in places.values()) + BOX_PX + 60
    height = max(y for _, y in places.values()) + HIGH_PX + 12
    lines = [_line(places[source], places[box.name], width) for box in boxes for source in box.sources if source in places]
    return canvas(width, height, *lines, *(_box(box, *places[box.name]) for box in boxes), label=label, class_="chart drawing")


def depths(boxes: Sequence[Box]) -> dict[str, int]:
    """Return the row of each box: one more than the lowest of its sources."""
    rows: dict[str, int] = {}
    for box in boxes:
        rows[box.name] = max((rows[source] + 1 for source in box.sources if source in rows), default=0)
    return rows


def positions(boxes: Sequence[Box], rows: Mapping[str, int]) -> dict[str, tuple[float, float]]:
    """Return left and top of each box; boxes of one row lie side by side, in the leftmost column of their sources where it is free."""
    column: dict[str, int] = {}
    taken: set[tuple[int, int]] = set()
    for box in boxes:
        wanted = min((column[source] for source in box.sources if source in column), default=0)
        place = next(c for c in range(wanted, wanted + len(boxes) + 1) if (rows[box.name], c) not in taken)
        column[box.name] = place
        taken.add((rows[box.name], place))
    return {box.name: (44 + column[box.name] * (BOX_PX + GAP_PX), 10 + ROW_PX * rows[box.name]) for box in boxes}


def _box(box: Box, x: float, y: float) -> Markup:
    style = f"series-{box.series % 5 + 1}"
    return element(
        "g",
        element("title", box.title),
        element("rect", x=x, y=y, width=BOX_PX, height=HIGH_PX, rx=4.0, class_="board"),
        element("rect", x=x, y=y, width=max(3.0, BOX_PX * min(box.share, 1.0)), height=HIGH_PX, rx=4.0, class_=f"fill pale {style}"),
        text(x + 8, y + 16, box.name if len(box.name) <= LETTERS else f"…{box.name[1 - LETTERS :]}", class_="row-name"),
    )


def _line(source: tuple[float, float], target: tuple[float, float], width: float) -> Markup:
    """Draw from the lower edge of one box to the upper edge of another; past other rows in a bow at the left of both."""
    x1, y1, x2, y2 = source[0] + BOX_PX / 2, source[1] + HIGH_PX, target[0] + BOX_PX / 2, target[1]
    if y2 - y1 <= ROW_PX:
        return element("path", d=f"M{x1:.1f} {y1:.1f} C{x1:.1f} {y1 + 9:.1f} {x2:.1f} {y2 - 9:.1f} {x2:.1f} {y2:.1f}", class_="wire")
    left, start, stop = min(source[0], target[0]), source[1] + HIGH_PX / 2, target[1] + HIGH_PX / 2
    bow = max(4.0, left - min(36.0, 12 + (stop - start) / 12))
    return element(
        "path", d=f"M{source[0]:.1f} {start:.1f} C{bow:.1f} {start:.1f} {bow:.1f} {stop:.1f} {target[0]:.1f} {stop:.1f}", class_="wire"
    )
