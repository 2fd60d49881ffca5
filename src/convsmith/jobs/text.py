"""Results as plain text: aligned tables that also read well in a file."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any


def table(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return an aligned table; columns of numbers go to the right. No rows: the headers alone."""
    cells = [[printable(cell) for cell in row] for row in rows]
    right = [all(map(_is_number, column)) for column in zip(*cells, strict=True)] if cells else [False] * len(headers)
    widths = [max(map(width, (header, *(row[i] for row in cells)))) for i, header in enumerate(headers)]
    lines = [_line(headers, widths, right), "  ".join("-" * size for size in widths)]
    return "\n".join(line.rstrip() for line in [*lines, *(_line(row, widths, right) for row in cells)])


def printable(value: Any) -> str:
    """Return one line of text: control characters (a newline in a file name) and undecodable bytes as escapes."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "".join(_escape(char) if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp", "Cf") else char for char in str(value))


def percent(share: float) -> str:
    """Return a share of one as ``98.61 %``."""
    return f"{100 * share:.2f} %"


def size(count: float) -> str:
    """Return bytes as ``1.4 MB`` (powers of 1000)."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def width(text: str) -> int:
    """Return the columns a text takes in a terminal: wide characters two, combining marks none."""
    return sum(0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = (
        " " * (size - width(cell)) + cell if to_right else cell + " " * (size - width(cell))
        for cell, size, to_right in zip(cells, widths, right, strict=True)
    )
    return "  ".join(padded)


def _escape(char: str) -> str:
    return char.encode("unicode_escape", "backslashreplace").decode()


def _is_number(text: str) -> bool:
    return text == "-" or text.removesuffix("%").strip().replace(".", "").replace(",", "").removeprefix("-").isdigit()
