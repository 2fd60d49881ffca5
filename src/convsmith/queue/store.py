"""The table of jobs: their order, who has been started, and the ended ones described, so that thousands are listed at once.

A broken or missing table is made again from the folders of the jobs; the broken one is kept beside it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from convsmith.errors import ResourceError, UsageError
from convsmith.queue import job
from convsmith.runs import files

FILE = "queue.sqlite"
_SCHEMA = 1
_TABLE = (
    "CREATE TABLE IF NOT EXISTS jobs (id INTEGER PRIMARY KEY AUTOINCREMENT, status TEXT NOT NULL, priority INTEGER NOT NULL, "
    "overtaken INTEGER NOT NULL DEFAULT 0, described TEXT)"
)
_INDEX = "CREATE INDEX IF NOT EXISTS by_status ON jobs (status)"
#: How long a writer waits for another one.
PATIENCE_S = 30.0


@dataclass(frozen=True)
class Row:
    """What the table says of a job. ``status``: ``queued``, ``started`` or an end; ``overtaken``: how often a later job went first."""

    id: int
    status: str
    priority: int
    overtaken: int


@contextmanager
def table(root: Path) -> Iterator[sqlite3.Connection]:
    """Open the table for one transaction: all of the block happens, or nothing.

    Raises: ResourceError when it cannot be written.
    """
    place = job.place(root)
    with files.writing(place):
        (place / "jobs").mkdir(parents=True, exist_ok=True)
    try:
        make_sound(root)
        with closing(_connect(place / FILE)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        if not isinstance(error, sqlite3.OperationalError):
            make_sound(root, suspect=True)
        raise ResourceError(f"the queue in {place / FILE} cannot be used: {error}; try again") from error


def rows(connection: sqlite3.Connection, *statuses: str) -> list[Row]:
    """Return the rows with these statuses in the order in which they start: priority first, then age."""
    marks = ", ".join("?" * len(statuses))
    found = connection.execute(
        f"SELECT id, status, priority, overtaken FROM jobs WHERE status IN ({marks}) ORDER BY priority DESC, id", statuses
    )
    return [Row(*values) for values in found]


def ended(connection: sqlite3.Connection, root: Path, limit: int) -> list[job.Job]:
    """Return the last jobs that ended, the newest first."""
    marks = ", ".join("?" * len(job.ENDS))
    found = connection.execute(f"SELECT described FROM jobs WHERE status IN ({marks}) ORDER BY id DESC LIMIT ?", (*job.ENDS, limit))
    return [_job(root, json.loads(described)) for (described,) in found]


def row(connection: sqlite3.Connection, number: int) -> Row:
    """Return one row; `UsageError` when there is no such job."""
    found = connection.execute("SELECT id, status, priority, overtaken FROM jobs WHERE id = ?", (number,)).fetchone()
    if found is None:
        raise UsageError(f"there is no job {number}; `convsmith queue list --all` shows the jobs there are")
    return Row(*found)


def settle(connection: sqlite3.Connection, found: job.Job) -> None:
    """Note a job that ended."""
    described = files.to_json({key: value for key, value in asdict(found).items() if key != "folder"})
    connection.execute("UPDATE jobs SET status = ?, described = ? WHERE id = ?", (found.status, described, found.id))


def _job(root: Path, described: dict[str, Any]) -> job.Job:
    run = described.pop("run")
    return job.Job(**described, run=Path(run) if run else None, folder=job.folder_of(root, described["id"]))


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=PATIENCE_S, isolation_level=None)


def make_sound(root: Path, *, suspect: bool = False) -> None:
    """Make the table where there is none, and again where it is no table; ``suspect``: read all of it to tell."""
    path = job.place(root) / FILE
    if _is_sound(path, suspect):
        return
    with files.alone(path.parent):
        if _is_sound(path, suspect):  # another process was first
            return
        part = path.with_name(f".{FILE}.part")
        part.unlink(missing_ok=True)
        with closing(_connect(part)) as connection:
            connection.execute(_TABLE)
            connection.execute(_INDEX)
            _fill(connection, root)
            connection.execute(f"PRAGMA user_version = {_SCHEMA}")
        if path.exists():
            path.replace(path.with_name(f"{FILE}.broken"))
        path.with_name(f"{FILE}-journal").unlink(missing_ok=True)
        part.replace(path)


def _is_sound(path: Path, whole: bool) -> bool:
    if not path.exists():
        return False
    try:
        with closing(_connect(path)) as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            return version == _SCHEMA and (not whole or connection.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok")
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError:
        return False


def _fill(connection: sqlite3.Connection, root: Path) -> None:
    connection.execute("BEGIN")
    for folder in sorted((job.place(root) / "jobs").iterdir()):
        try:
            found = job.from_folder(folder)
        except (UsageError, ValueError, KeyError):
            continue  # a folder whose request was never written whole is no job
        waits = found.status == "queued"
        status = found.status if found.status in job.ENDS else "queued" if waits else "started"
        connection.execute("INSERT INTO jobs (id, status, priority) VALUES (?, ?, ?)", (found.id, status, found.priority))
        if status in job.ENDS:
            settle(connection, found)
    connection.execute("COMMIT")
