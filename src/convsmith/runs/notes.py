"""What a person wrote about a run: a title and notes, in a file of its own so that the job that writes the run is not disturbed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from convsmith.errors import UsageError
from convsmith.runs import files

FILE = "remarks.json"
MOST_TITLE, MOST_GROUP, MOST_TEXT = 200, 80, 20_000


@dataclass(frozen=True)
class Notes:
    """``title`` is shown in place of the folder's name, ``group`` is what the run belongs to; ``version`` counts the changes from 0."""

    title: str = ""
    text: str = ""
    version: int = 0
    group: str = ""


class Outdated(UsageError):
    """Somebody else changed the notes meanwhile; nothing was written. ``found``: what is there now."""

    def __init__(self, found: Notes) -> None:
        super().__init__("the notes were changed elsewhere meanwhile; nothing was written. Load them again and repeat your change")
        self.found = found


def read(folder: Path) -> Notes:
    """Return the notes of a run; a missing or damaged file is no notes."""
    try:
        told = json.loads((folder / FILE).read_text(encoding="utf-8"))
        group = str(told.get("group", ""))[:MOST_GROUP]
        return Notes(str(told["title"])[:MOST_TITLE], str(told["text"])[:MOST_TEXT], int(told["version"]), group)
    except (OSError, ValueError, KeyError, TypeError):
        return Notes()


def write(folder: Path, *, title: str, text: str, version: int, group: str = "") -> Notes:
    """Replace the notes of a run that are still of ``version``, and return the new ones.

    Raises: Outdated when they are of another version; UsageError when they are too long.
    """
    for what, value, most in (("title", title, MOST_TITLE), ("group", group, MOST_GROUP), ("text", text, MOST_TEXT)):
        if len(value) > most:
            raise UsageError(f"the {what} has {len(value):,} characters; at most {most:,} are kept")
    with files.writing(folder), files.alone(folder):
        found = read(folder)
        if found.version != version:
            raise Outdated(found)
        notes = Notes(" ".join(title.split()), text, version + 1, " ".join(group.split()))
        files.write_json(folder / FILE, asdict(notes))
    return notes


def put_into(folder: Path, group: str) -> Notes:
    """Put a run into a group, "" for none; its other notes stay as they are, whoever writes them meanwhile."""
    while True:
        found = read(folder)
        try:
            return write(folder, title=found.title, text=found.text, version=found.version, group=group)
        except Outdated:
            continue
