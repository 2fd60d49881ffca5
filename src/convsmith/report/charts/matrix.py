"""The confusion matrix, from 2 classes to hundreds."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from convsmith.report.charts.svg import GLYPH_PX, canvas, element, shorten, text


def cell_px(classes: int) -> float:
    """Return the side of a cell: large enough for a count up to 40 classes, for a line of text beyond."""
    return 46.0 if classes <= 10 else 36.0 if classes <= 20 else 26.0 if classes <= 40 else 13.0


def confusion_chart(confusion: Sequence[Sequence[int]], classes: Sequence[str], *, label: str) -> Markup:
    """Draw true classes as rows and predictions as columns, tinted by the share of the row: right one hue, wrong another.

    Counts stand in the cells up to 40 classes; beyond, each cell tells its count as a tooltip. Empty cells are not drawn.
    """
    n, side = len(classes), cell_px(len(classes))
    letters = min(18, max(len(" ".join(name.split())) for name in classes))
    margin = GLYPH_PX * letters + 34
    # column names lie flat where they fit, else they stand
    flat = letters * GLYPH_PX <= side - 4
    top = 44.0 if flat else margin
    parts = [
        text(margin + n * side / 2, 14, "predicted", anchor="middle", class_="axis-title"),
        text(13, top + n * side / 2, "true", anchor="middle", class_="axis-title", transform=f"rotate(-90 13 {top + n * side / 2:g})"),
        element("rect", x=margin, y=top, width=n * side, height=n * side, class_="board"),
    ]
    for index, name in enumerate(classes):
        short, middle = shorten(name, letters), (index + 0.5) * side
        parts.append(text(margin - 6, top + middle + 4, short, anchor="end", class_="row-name"))
        if flat:
            parts.append(text(margin + middle, top - 8, short, anchor="middle", class_="column-name"))
        else:
            turn = f"rotate(-90 {margin + middle + 4:g} {top - 6:g})"
            parts.append(text(margin + middle + 4, top - 6, short, class_="column-name", transform=turn))
    for row, counts in enumerate(confusion):
        parts += [
            _cell(row, column, count, sum(counts), classes, margin + column * side, top + row * side, side)
            for column, count in enumerate(counts)
            if count
        ]
    # a dozen classes may shrink to a narrow screen and stay legible; more scroll, fewer fit
    shrinks = n <= 12 and margin + n * side > 320
    style = "chart matrix compact" if shrinks else "chart matrix"
    return canvas(margin + n * side + 8, top + n * side + 8, *parts, label=label, class_=style)


def _cell(row: int, column: int, count: int, total: int, classes: Sequence[str], x: float, y: float, side: float) -> Markup:
    share = count / total
    told = (
        f"{classes[row]} taken for {classes[column]}: {count:,} of {total:,}"
        if row != column
        else f"{classes[row]}: {count:,} of {total:,} right"
    )
    # a single mistake must show, so the tint starts at 12 %
    tint = 0.12 + 0.88 * share
    parts = [
        element("title", told),
        element(
            "rect",
            x=x + 0.5,
            y=y + 0.5,
            width=side - 1,
            height=side - 1,
            fill_opacity=f"{tint:.2f}",
            class_=f"fill {'right' if row == column else 'wrong'}",
        ),
    ]
    if side >= 26:
        style = "small" if len(f"{count}") * GLYPH_PX > side - 4 else None
        parts.append(text(x + side / 2, y + side / 2 + 4, f"{count}", anchor="middle", class_=style))
    return element("g", *parts)
