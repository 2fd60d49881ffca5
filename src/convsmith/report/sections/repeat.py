"""The command that does it again, the configuration, the versions and the machine."""

from __future__ import annotations

import shlex
from pathlib import PurePath
from typing import Any

from convsmith.report.source import Source


def command(source: Source) -> str:
    """Return the command line as it can be pasted into a shell."""
    words = [str(word) for word in source.described.get("command") or []]
    if not words:
        return ""
    name = PurePath(words[0]).name
    start = ["python", "-m", "convsmith"] if name == "__main__.py" else [name]
    return shlex.join(start + words[1:])


def build(source: Source) -> dict[str, Any]:
    """Return the command, config.yaml as it stands, versions and machine."""
    config = source.run.folder / "config.yaml"
    return {
        "command": command(source),
        "folder": str(source.run.folder.resolve()),
        "config": config.read_text(encoding="utf-8") if config.is_file() else "",
        "versions": [(str(key), str(value)) for key, value in (source.described.get("versions") or {}).items()],
    }
