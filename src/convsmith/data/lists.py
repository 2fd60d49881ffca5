"""Text files of a path and a label a line, as DIGITS and Caffe write them: ``train.txt``, with ``val.txt`` and ``test.txt`` beside it."""

from __future__ import annotations

from pathlib import Path

from convsmith.data.dataset import Problem
from convsmith.data.folder import Entry, Listing, in_order
from convsmith.data.source import FREE, PART_NAMES
from convsmith.errors import DataError

NAMES = "labels.txt"


def is_list(path: Path) -> bool:
    return path.suffix.lower() == ".txt"


def read_lists(path: Path) -> Listing:
    """Read a list; one named for a part, such as ``train.txt``, brings those of the other parts beside it.

    A line is a path, blanks or a tab, and a label; a path may hold blanks. Where every label is a number and ``labels.txt`` lies beside
    the lists, its lines name them. Relative paths start at the list's folder.

    Raises: DataError for a file that is no such list, and for a number that ``labels.txt`` has no line for.
    """
    given = PART_NAMES.get(path.stem.lower(), FREE)
    lists = {path: given}
    if given != FREE:
        beside = sorted(item for item in path.parent.iterdir() if is_list(item) and item.stem.lower() in PART_NAMES)
        lists |= {item: PART_NAMES[item.stem.lower()] for item in beside}
    found: dict[tuple[str, str, int], None] = {}
    problems: list[Problem] = []
    count = 0
    for item, part in lists.items():
        for number, line in enumerate(_lines(item), 1):
            words = line.rsplit(maxsplit=1)
            if len(words) == 2:
                found[words[0].strip(), words[1], part] = None
                count += 1
            elif words:
                problems.append(Problem(f"{item.name}:{number}", "row", "the line has no path or label"))
    if not found:
        raise DataError(f"{str(path)!r} has no line of a path and a label")
    titles = _titles(path.parent / NAMES, [label for _, label, _ in found])
    entries = [Entry(name, str(path.parent / name), titles.get(label, label), part) for name, label, part in found]
    notes = (f"{count - len(found)} repeated lines ignored",) if count > len(found) else ()
    return Listing(entries, in_order(entry.label for entry in entries), tuple(problems), notes)


def _titles(path: Path, labels: list[str]) -> dict[str, str]:
    """Return the names of numbered labels, {} where they are names already or nothing names them."""
    if not path.is_file() or not all(label.isdigit() for label in labels):
        return {}
    names = [line.strip() for line in _lines(path)]
    largest = max(map(int, labels))
    if largest >= len(names) or not all(names[int(label)] for label in labels):
        raise DataError(f"{str(path)!r} names {len(names)} classes, and there is a label {largest}; it needs a line for each, from 0 on")
    return {label: names[int(label)] for label in labels}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{str(path)!r} is not a text in UTF-8 ({error})") from error
    except OSError as error:
        raise DataError(f"{str(path)!r} cannot be read ({error.strerror})") from error
