"""Where runs live and how they are called."""

from __future__ import annotations

import os
import re
import unicodedata
from datetime import datetime
from pathlib import Path

from convsmith.errors import ResourceError
from convsmith.runs.files import writing


def root() -> Path:
    """Return the folder of all runs: what CONVSMITH_RUNS names, else ``runs`` in the current folder."""
    return Path(os.environ.get("CONVSMITH_RUNS") or "runs")


def slug(text: str) -> str:
    """Return ``text`` in small letters, digits, dots and dashes, at most 40 characters; ``data`` when nothing is left."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9.]+", "-", ascii_text).strip("-.")[:40].strip("-.") or "data"


def new_folder(parent: Path, verb: str, data: str) -> Path:
    """Make and return ``parent/2026-11-22-1412-verb-data``, with ``-2``, ``-3`` ... when the name is taken."""
    return unused_folder(parent, f"{datetime.now():%Y-%m-%d-%H%M}-{slug(verb)}-{slug(data)}")


def unused_folder(parent: Path, stem: str) -> Path:
    """Make and return ``parent/stem``, with ``-2``, ``-3`` ... when the name is taken."""
    with writing(parent):
        parent.mkdir(parents=True, exist_ok=True)
        for count in range(1, 10_000):
            folder = parent / (stem if count == 1 else f"{stem}-{count}")
            try:
                folder.mkdir()
            except FileExistsError:
                continue
            return folder
    raise ResourceError(f"{parent} already holds 9,999 runs named {stem}; remove some with `convsmith runs rm`")
