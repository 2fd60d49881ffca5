"""What the tuner chose before, in a file of the user's cache folder; a broken file counts as an empty one."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

VERSION: Final = 1
VARIABLE: Final = "CONVSMITH_TUNING"


def cache_path() -> Path:
    """Return the file: CONVSMITH_TUNING, else ``convsmith/tuning.json`` in the user's cache folder."""
    given = os.environ.get(VARIABLE)
    if given:
        return Path(given).expanduser()
    folder = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(folder) / "convsmith" / "tuning.json"


def key(processor: str, level: str, threads: int, version: str, layer: str) -> str:
    """Return the name of a decision: it holds for this processor, instruction set, number of threads and version only."""
    return " | ".join((processor, level, f"{threads} threads", version, layer))


def recall(path: Path | None = None) -> dict[str, list[Any]]:
    """Return all decisions, ``[algorithm, threads]`` by key; none when there is no file or it cannot be understood."""
    try:
        content = json.loads((path or cache_path()).read_text())
        if content["version"] != VERSION:
            return {}
        return {str(name): [str(algorithm), int(threads)] for name, (algorithm, threads) in content["decisions"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def remember(decisions: Mapping[str, list[Any]], path: Path | None = None) -> bool:
    """Add decisions to the file, replacing it at once; False where it cannot be written, which costs only time later."""
    target = path or cache_path()
    return replace(target, {"version": VERSION, "decisions": dict(sorted({**recall(target), **decisions}.items()))})


def replace(path: Path, content: Mapping[str, Any]) -> bool:
    """Put a file of the cache folder in place at once; False where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w") as file:
            json.dump(content, file, indent=0)
        Path(temporary).replace(path)
    except OSError:
        return False
    return True
