"""What a person wrote about a run: a title and notes, in a file of its own so that the job that writes the run is not disturbed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from convsmith.errors import UsageError
from convsmith.runs import files

FILE = "remarks.json"
MOST_TITLE, MOST_TEXT = 200, 20_000


@dataclass(frozen=True)
class Notes:
    """``title`` is shown in place of the folder's name; ``version`` counts the changes, 0 before the first."""

    title: str = ""
    text: str = ""
    version: int = 0


class Outdated(UsageError):
    """Somebody else changed the notes meanwhile; nothing was written. ``found``: what is there now."""

    def __init__(self, found: Notes) -> None:
        super().__init__("the notes were changed elsewhere meanwhile; nothing was written. Load them again and repeat your change")
        self.found = found


def read(folder: Path) -> Notes:
    """Return the notes of a run; a missing or damaged file is no notes."""
    try:
        told = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return Notes(str(told["title"])[:MOST_TITLE], str(told["text"])[:MOST_TEXT], int(told["version"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Notes()


def write(folder: Path, *, title: str, text: str, version: int) -> Notes:
    """Replace the notes of a run that are still of ``version``, and return the new ones.

    Raises: Outdated when they are of another version; UsageError when they are too long.
    """
    for what, value, most in (("title", title, MOST_TITLE), ("text", text, MOST_TEXT)):
        if len(value) > most:
            raise UsageError(f"the {what} has {len(value):,} characters; at most {most:,} are kept")
    with files.writing(folder), files.alone(folder):
        found = read(folder)
        if found.version != version:
            raise Outdated(found)
        notes = Notes(" ".join(title.split()), text, version + 1)
        files.write_json(folder / FILE, asdict(notes))
    return notes
