"""Which files the studio may touch: those inside the allowed folders, symbolic links followed first."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from convsmith.data.lists import is_list
from convsmith.data.source import PART_NAMES
from convsmith.data.table import is_table
from convsmith.errors import UsageError

#: Beginnings of names that are no paths although they have a slash.
NAMES = ("torchvision/", "timm/")
#: Files that may run code when they are read; torch checkpoints are read with the restricted unpickler and stay allowed.
PICKLES = (".pkl", ".pickle", ".joblib", ".dill")


class Outside(UsageError):
    """A path outside the allowed folders."""


class Roots:
    """The allowed folders."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = tuple(dict.fromkeys(folder.expanduser().resolve() for folder in folders))

    def contains(self, path: Path) -> bool:
        """Tell whether a path, with its links followed, lies in an allowed folder."""
        try:
            full = path.expanduser().resolve()
        except (OSError, RuntimeError, ValueError):  # a loop of links, an unknown home, a null byte
            return False
        return any(full.is_relative_to(folder) for folder in self.folders)

    def require(self, path: str | Path) -> Path:
        """Return the path with its links followed.

        Raises: Outside when it lies in no allowed folder, whether it exists or not.
        """
        if "\0" in str(path) or not self.contains(Path(path)):
            allowed = ", ".join(map(str, self.folders))
            raise Outside(f"{str(path)!r} is outside the folders the studio may use: {allowed}. Start it with --allow FOLDER to add one.")
        return Path(path).expanduser().resolve()

    def check(self, value: Any) -> None:
        """Refuse settings that name a file outside the folders, or one that is a pickle, at any depth."""
        if isinstance(value, Mapping):
            for item in value.values():
                self.check(item)
        elif isinstance(value, list | tuple):
            for item in value:
                self.check(item)
        elif isinstance(value, str | Path):
            self._check_text(str(value))

    def _check_text(self, text: str) -> None:
        assigned = re.match(r"[\w.-]+=(.*)", text, re.DOTALL)
        if assigned:  # a setting within a setting, as a sweep has them
            for part in assigned[1].split(","):
                self._check_text(part.strip())
            if not _is_there(text):
                return
        text = _file_of(text)
        if text.lower().endswith(PICKLES):
            raise UsageError(f"{text!r} is a pickle, which can run code when it is read; give weights as .safetensors, .pt or .onnx")
        path_like = any(mark in text for mark in ("/", "\\", "\0")) or text.startswith(("~", "."))
        if (path_like or _is_there(text)) and (not text.startswith(NAMES) or ".." in text or _is_there(text)):
            for listed in _lists(self.require(text)):
                self._check_list(listed)

    def _check_list(self, path: Path) -> None:
        """Refuse a list of images that names one outside the folders."""
        try:
            found = path.stat()
        except OSError:
            return  # whoever opens it says why
        for number, place in _leaving(path, found.st_mtime_ns, found.st_size):
            if not self.contains(path.parent / place):
                raise Outside(f"line {number} of {str(path)!r} names {place[:200]!r}, which is outside the folders the studio may use")


def _lists(path: Path) -> list[Path]:
    """Return the files that may name the images of a source: itself with the other parts beside it, or the tables in its folder."""
    try:
        if path.is_dir():
            return [item for item in path.iterdir() if is_table(item)]
        if is_list(path) and path.is_file():
            return [path, *(item for item in path.parent.iterdir() if is_list(item) and item.stem.lower() in PART_NAMES)]
    except OSError:
        return []  # whoever opens it says why
    return [path] if is_table(path) else []


@lru_cache(maxsize=256)
def _leaving(path: Path, stamp_ns: int, size: int) -> tuple[tuple[int, str], ...]:
    """Return line and text of what a list names with a path from the root or upwards; kept while the file stays the same."""
    found = []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if b".." not in line and b"/" not in line:
                continue
            cells = re.split(r"[,;\t]|\s(?=\S+\s*$)", line.decode("utf-8", "replace"))
            for place in (cell.strip().strip('"').strip() for cell in cells):
                if place.startswith("/") or ".." in place.split("/"):
                    found.append((number, place))
    return tuple(found)


def _is_there(text: str) -> bool:
    try:
        return Path(text).exists() or Path(text).is_symlink()
    except (OSError, ValueError):  # a name too long, or with a null byte
        return False


def _file_of(text: str) -> str:
    """Return the file that the address of a database means; other texts as they are, and "" for a database behind a server.

    Raises: Outside for an address of any other kind, and for one with options, which could name another file.
    """
    address = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):(/*)(.*)", text, re.DOTALL)
    if address is None or not (address[2].startswith("//") or address[1].lower().startswith("sqlite")):
        return text
    kind, slashes, rest = address[1].lower().partition("+")[0], len(address[2]), address[3]
    if kind == "postgresql":
        return ""
    if kind != "sqlite" or "?" in rest or rest.startswith("file:"):
        raise Outside(f"{text!r} is no address the studio may use; allowed are sqlite:///FILE without options and postgresql://...")
    return f"{'/' if slashes > 3 else './'}{rest}"
