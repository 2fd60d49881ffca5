"""A CSV of path and label, with or without a header and a column that names the part."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from convsmith.data.dataset import Problem
from convsmith.data.folder import Entry, Listing, in_order
from convsmith.data.source import FREE, PART_NAMES
from convsmith.errors import DataError

PATH_HEADS = ("path", "file", "filename", "file_name", "filepath", "image", "image_path", "img", "name")
LABEL_HEADS = ("label", "class", "class_name", "class_index", "target", "category", "y")
PART_HEADS = ("split", "part", "set", "subset", "partition")


def is_table(path: Path) -> bool:
    return path.suffix.lower() in (".csv", ".tsv")


def read_table(path: Path) -> Listing:
    """Read the rows; relative paths start at the CSV's folder. The delimiter is a comma, a semicolon or a tab.

    A first row is a header when its names say so (``path`` or ``file``, ``label`` or ``class``, optionally ``split``), or when
    it names no file. Without a header the columns are path, label and optionally the part.

    Raises: DataError for a file that is no such table, with the line.
    """
    rows = _rows(path)
    if not rows:
        raise DataError(f"{str(path)!r} is empty; expected are lines of path,label")
    path_column, label_column, part_column, skip = _columns(path, rows)
    entries: list[Entry] = []
    seen: set[tuple[str, str, int]] = set()
    problems: list[Problem] = []
    needed = max(path_column, label_column)
    for line, row in rows[skip:]:
        if len(row) <= needed or not row[path_column].strip() or not row[label_column].strip():
            problems.append(Problem(f"{path.name}:{line}", "row", f"the line has no {'label' if len(row) <= needed else 'path or label'}"))
            continue
        name, label = row[path_column].strip(" \t"), row[label_column].strip()
        given = _part(row[part_column], path, line) if part_column is not None and part_column < len(row) else FREE
        if (name, label, given) not in seen:
            seen.add((name, label, given))
            entries.append(Entry(name, str(path.parent / name), label, given))
    repeated = len(rows) - skip - len(problems) - len(entries)
    notes = (f"{repeated} repeated {'line' if repeated == 1 else 'lines'} of {path.name} ignored",) if repeated else ()
    if not entries:
        raise DataError(f"{str(path)!r} has no line of path,label")
    return Listing(entries, in_order(entry.label for entry in entries), tuple(problems), notes)


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            delimiter = max(",;\t", key=first.count)
            reader = csv.reader(file, delimiter=delimiter)
            return [(reader.line_num, row) for row in reader if row]
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{str(path)!r} is not a CSV in UTF-8 ({error})") from error
    except OSError as error:
        raise DataError(f"{str(path)!r} cannot be read ({error.strerror})") from error


def _columns(path: Path, rows: Sequence[tuple[int, list[str]]]) -> tuple[int, int, int | None, int]:
    """Return the columns of path, label and part, and how many rows the header takes."""
    head = [cell.strip().lower() for cell in rows[0][1]]
    if len(head) < 2:
        raise DataError(f"{str(path)!r} has one column; expected are at least path,label")
    by_name = [next((head.index(name) for name in names if name in head), None) for names in (PATH_HEADS, LABEL_HEADS, PART_HEADS)]
    if by_name[0] is not None and by_name[1] is not None:
        return by_name[0], by_name[1], by_name[2], 1
    body = rows[1:] or rows
    third = [row[2].strip().lower() for _, row in body if len(row) > 2]
    part = 2 if third and all(cell in PART_NAMES or not cell for cell in third) else None
    is_file = (path.parent / rows[0][1][0]).is_file()
    second_is_file = len(rows) > 1 and (path.parent / rows[1][1][0]).is_file()
    return 0, 1, part, int(second_is_file and not is_file)


def _part(cell: str, path: Path, line: int) -> int:
    word = cell.strip().lower()
    if word and word not in PART_NAMES:
        raise DataError(f"{path.name}, line {line}: the part is {cell!r}; allowed are {', '.join(PART_NAMES)}")
    return PART_NAMES[word] if word else FREE
