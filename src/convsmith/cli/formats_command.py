"""``convsmith precision formats``: the catalogue of number formats, or one format in detail."""

from __future__ import annotations

import math
import os
import shutil
import sys
from typing import Annotated, Any, Final

from cyclopts import App, Parameter

from convsmith import formats
from convsmith.cli import output
from convsmith.cli.flags import Json
from convsmith.formats.number_line import HIGHEST, LOWEST, dots, number_line
from convsmith.jobs.text import table

#: All values of a format of so many bits are shown.
SHOWN_BITS = 8
PER_LINE = 8
#: Columns of the table, and of it with the source, which is cut off where the terminal ends; below, its largest value stands for a range.
WIDE: Final = 112
WITH_SOURCE: Final = 136

HELP = "List the number formats: bits, range, epsilon, where they come from."
app = App(name="formats", help=HELP, help_format="plaintext", suppress_keyboard_interrupt=False)


@app.default
def show(
    name: Annotated[str | None, Parameter(help="A name or notation: fp16, e4m3fn, fixed<4,12>; all of the catalogue without")] = None,
    /,
    *,
    json: Json = False,
) -> int:
    """List the number formats: bits, range, epsilon, where they come from."""
    chosen = formats.CATALOGUE if name is None else {name: formats.parse(name)}
    if json:
        described = [describe(key, fmt, name is not None) for key, fmt in chosen.items()]
        return output.answer("precision formats", described if name is None else described[0])
    print("\n".join(_catalogue() if name is None else _detail(name, chosen[name])))
    return 0


def describe(name: str, fmt: formats.Format, whole: bool = False) -> dict[str, Any]:
    """Return what there is to say of a format as plain data; ``whole``: with all values when they are few."""
    plain = "".join(name.split()).lower()
    found: dict[str, Any] = {
        "name": name,
        "notation": str(fmt),
        "bits": fmt.bits_per_value,
        "carrier": fmt.carrier,
        "largest": formats.max_value(fmt),
        "lowest": formats.min_value(fmt),
        "smallest": formats.smallest_positive(fmt),
        "smallest_normal": formats.smallest_normal(fmt),
        "epsilon": formats.epsilon(fmt),
        "infinities": fmt.has_infinity,
        "nan": fmt.has_nan,
        "source": formats.SOURCES.get(plain),
    }
    if whole and _few(fmt):
        found["values"] = formats.values(fmt).tolist()
    return found


def _few(fmt: formats.Format) -> bool:
    return fmt.element is None and fmt.bits <= SHOWN_BITS


def _number(x: float) -> str:
    near = x if abs(x - round(x)) > 1e-4 * abs(x) else round(x)
    return f"{x:.0f}" if (near == round(x) and 1 <= abs(x) < 1e6) or x == 0 else f"{x:.4g}"


def _columns() -> int:
    """Return the width of the terminal; in a file or a pipe there is no end to a line."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() or os.environ.get("COLUMNS") else 1000


def _catalogue() -> list[str]:
    columns = _columns()
    rows = []
    for name, fmt in formats.CATALOGUE.items():
        low, high, epsilon = (_number(value) for value in (formats.min_value(fmt), formats.max_value(fmt), formats.epsilon(fmt)))
        ends = [f"{low} to {high}", _number(formats.smallest_positive(fmt))] if columns >= WIDE else [high]
        source = [_cut(formats.SOURCES[name], columns - WIDE)] if columns >= WITH_SOURCE else []
        rows.append([name, f"{fmt.bits_per_value:g}", *ends, epsilon, number_line(fmt), *source])
    line = f"2^{LOWEST}".ljust(17) + "1".ljust(14) + f"2^{HIGHEST}"
    middle = ["range", "smallest"] if columns >= WIDE else ["largest"]
    return [
        table(["name", "bits", *middle, "epsilon", line, *(["source"] if columns >= WITH_SOURCE else [])], rows),
        "",
        "Each character of the line is one power of two, the darker the more values",
        "lie there; < and > mean that more follow. `convsmith precision formats NAME`",
        "shows one format and its source; other formats are written e5m10,",
        "e4m3fn:bias=11, fixed<4,12>, int6, block<e2m1,32>: docs/formats.md.",
    ]


def _cut(text: str, columns: int) -> str:
    return text if len(text) <= columns else text[: columns - 3] + "..."


def _detail(name: str, fmt: formats.Format) -> list[str]:
    said = describe(name, fmt)
    rows = [[key.replace("_", " "), "-" if value is None else _told(value)] for key, value in said.items()]
    parts = [table(["what", "value"], rows), "", f"2^{LOWEST}".ljust(18) + "1".ljust(14) + f"2^{HIGHEST}", number_line(fmt)]
    if _few(fmt):
        listed = [f"{value:.7g}" for value in formats.values(fmt)]
        width = max(map(len, listed)) + 1
        lines = ["".join(v.rjust(width) for v in listed[i : i + PER_LINE]) for i in range(0, len(listed), PER_LINE)]
        parts += ["", dots(fmt, min(101, _columns() - 1)), "", f"All {len(listed)} finite values:", *lines]
    return parts


def _told(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and value > 0 and math.frexp(value)[0] == 0.5 and not 1 <= value < 1e6:
        return f"{value:.9g} = 2^{math.frexp(value)[1] - 1}"
    return f"{value:.9g}" if isinstance(value, float) else str(value)
