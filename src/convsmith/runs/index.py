"""The list of all runs under one folder, kept in ``index.sqlite`` so that thousands are listed at once.

The folders are the truth: an entry is used only while run.json has the size and time it had, so a missing, old or broken index
costs time and never a run. An index that cannot be written is done without.
"""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convsmith.errors import ConvsmithError, ResourceError, UsageError, near
from convsmith.runs import files, naming, reader

FILE = "index.sqlite"
_SCHEMA = 1
_TABLE = "CREATE TABLE IF NOT EXISTS runs (name TEXT PRIMARY KEY, stamp TEXT NOT NULL, described TEXT NOT NULL)"


@dataclass(frozen=True)
class Entry:
    """One line of the list. ``status`` is ``unreadable`` for a run folder of another version; ``error`` then says why."""

    name: str
    folder: Path
    verb: str
    data: str
    status: str
    created: str
    summary: Mapping[str, Any]
    error: str | None = None


def entries(root: Path) -> list[Entry]:
    """Return every run under ``root``, oldest first, and bring the index up to date. No such folder: no runs.

    Raises: ResourceError when the folder may not be read.
    """
    try:
        folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ResourceError(f"the runs in {root} cannot be listed: {error.strerror}") from None
    known = _read(root)
    stamps = {folder.name: stamp for folder in folders if (stamp := _stamp(folder))}
    fresh = {name: known[name][1] for name, stamp in stamps.items() if name in known and known[name][0] == stamp}
    listed, changed = [], {}
    for folder in folders:
        if folder.name not in stamps:
            continue
        if folder.name in fresh:
            listed.append(_entry(reader.Run(folder, fresh[folder.name])))
            continue
        try:
            run = reader.open_run(folder)
        except ConvsmithError as error:
            listed.append(_unreadable(folder, error))
            continue
        listed.append(_entry(run))
        changed[folder.name] = (stamps[folder.name], run.described)
    gone = known.keys() - stamps.keys()
    if changed or gone:
        _write(root, changed, gone)
    return sorted(listed, key=lambda entry: (entry.created, entry.name))


def entry(folder: Path) -> Entry:
    """Return the line of one run, read from its folder; the folder is one with a run.json."""
    try:
        return _entry(reader.open_run(folder))
    except ConvsmithError as error:
        return _unreadable(folder, error)


def _entry(run: reader.Run) -> Entry:
    return Entry(run.folder.name, run.folder, run.verb, run.data, run.status, run.created, run.summary, run.error)


def _unreadable(folder: Path, error: ConvsmithError) -> Entry:
    return Entry(folder.name, folder, "?", "", "unreadable", "", {}, str(error))


def note(folder: Path) -> None:
    """Put one run into the index beside it: where there is one, or where the runs live by default."""
    folder = folder.resolve()
    stamp = _stamp(folder)
    if stamp and ((folder.parent / FILE).exists() or folder.parent == naming.root().resolve()):
        _write(folder.parent, {folder.name: (stamp, reader.open_run(folder).described)}, set())


def find(name: str | Path, root: Path) -> Path:
    """Return the folder of a run given as a path, or by its name or a unique beginning of it under ``root``; ``last`` is the newest.

    Raises: UsageError with the near names.
    """
    path = Path(name).expanduser()
    if (path / "run.json").exists():
        return path
    listed = entries(root)
    if str(name) == "last" and listed:
        return listed[-1].folder
    names = {entry.name: entry.folder for entry in listed}
    matches = [str(name)] if str(name) in names else [other for other in names if other.startswith(str(name))]
    if len(matches) == 1:
        return names[matches[0]]
    if matches:
        raise UsageError(f"{name} is the beginning of {len(matches)} runs: {', '.join(matches[:5])}; give more of the name")
    raise UsageError(_not_found(path, name, listed, root))


def _not_found(path: Path, name: str | Path, listed: list[Entry], root: Path) -> str:
    if path.is_dir():
        return f"{path} is not a run: it has no run.json. `convsmith runs list` shows the runs there are."
    hint = near(str(name), [entry.name for entry in listed])
    return f"there is no run {str(name)!r}: neither a folder of that path nor one of the {len(listed)} runs in {root}.{hint}"


def _stamp(folder: Path) -> str | None:
    try:
        found = (folder / "run.json").stat()
    except OSError:
        return None
    return f"{found.st_size}:{found.st_mtime_ns}:{found.st_ino}"


def _connect(root: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(root / FILE, timeout=20, isolation_level=None)
    connection.execute("PRAGMA synchronous=OFF")
    return connection


def _read(root: Path) -> dict[str, tuple[str, dict[str, Any]]]:
    if not (root / FILE).exists():
        return {}
    try:
        with closing(_connect(root)) as connection:
            if connection.execute("PRAGMA user_version").fetchone()[0] != _SCHEMA:
                return {}
            rows = connection.execute("SELECT name, stamp, described FROM runs").fetchall()
        return {name: (stamp, json.loads(described)) for name, stamp, described in rows}
    except (sqlite3.Error, ValueError):
        return {}


def _write(root: Path, changed: Mapping[str, tuple[str, Mapping[str, Any]]], gone: set[str]) -> None:
    try:
        with files.alone(root):
            try:
                _upsert(root, changed, gone)
            except sqlite3.DatabaseError:
                _replace(root)
                _upsert(root, changed, gone)
    except (sqlite3.Error, OSError):
        return


def _upsert(root: Path, changed: Mapping[str, tuple[str, Mapping[str, Any]]], gone: set[str]) -> None:
    if not (root / FILE).exists():
        _replace(root)
    with closing(_connect(root)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        if connection.execute("PRAGMA user_version").fetchone()[0] != _SCHEMA:
            raise sqlite3.DatabaseError("an index of another version")
        rows = [(name, stamp, files.to_json(described)) for name, (stamp, described) in changed.items()]
        connection.executemany("INSERT OR REPLACE INTO runs VALUES (?, ?, ?)", rows)
        connection.executemany("DELETE FROM runs WHERE name = ?", [(name,) for name in gone])
        connection.execute("COMMIT")


def _replace(root: Path) -> None:
    """Put an empty index in place of a missing, broken or foreign one, by rename: no reader sees a half-made one."""
    handle, name = tempfile.mkstemp(prefix=f".{FILE}.", dir=root)
    os.close(handle)
    part = Path(name)
    try:
        with closing(sqlite3.connect(part, isolation_level=None)) as connection:
            connection.execute(_TABLE)
            connection.execute(f"PRAGMA user_version = {_SCHEMA}")
        (root / f"{FILE}-journal").unlink(missing_ok=True)
        part.replace(root / FILE)
    finally:
        part.unlink(missing_ok=True)
