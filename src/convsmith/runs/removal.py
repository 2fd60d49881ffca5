"""Taking a run away, never anything else."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from convsmith.errors import UsageError
from convsmith.runs import files, reader


def remove(folder: str | Path) -> Path:
    """Delete one run folder and return its path. It is renamed first, so a kill in between leaves no half run in the list.

    Raises: UsageError when the folder is no run, is a link, is being written, or holds the current folder; ResourceError when not allowed.
    """
    path = Path(folder).expanduser()
    if path.is_symlink():
        raise UsageError(f"{path} is a symbolic link; give the run folder itself")
    run = reader.open_run(path)
    if run.status == "running":
        raise UsageError(f"{path} is being written by process {run.described['process']['pid']}; stop that first")
    full = path.resolve()
    if Path.cwd().resolve().is_relative_to(full):
        raise UsageError(f"{path} holds the current folder; change to another folder first")
    inner = sorted(file.parent.name for file in full.glob("*/run.json"))
    if inner:
        raise UsageError(f"{path} holds other runs ({', '.join(inner)}); move or remove those first")
    aside = full.with_name(f".removed-{full.name}-{os.getpid()}")
    with files.writing(path):
        full.rename(aside)
        shutil.rmtree(aside)
    return path
