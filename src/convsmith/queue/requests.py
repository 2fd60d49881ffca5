"""What a page or a command asks of the queue: add, list, stop, go on, put first."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from convsmith import runs
from convsmith.errors import ResourceError, UsageError
from convsmith.jobs import resume as resuming
from convsmith.jobs import verbs
from convsmith.jobs.configuration import given, validate
from convsmith.queue import job, resources, starting, store
from convsmith.queue.job import Job
from convsmith.runs import files

#: Verbs that add files to a run, or none, and leave its training alone.
READERS = ("eval", "average", "export", "card", "bench", "inspect", "explain", "predict", "precision")


def submit(
    verb: str,
    arguments: Mapping[str, Any],
    *,
    root: str | Path | None = None,
    out: str | Path | None = None,
    cores: int | None = None,
    gpus: int | None = None,
    priority: int = 0,
) -> int:
    """Put a job into the queue of the runs folder ``root`` and return its number; it is on the disk then.

    ``arguments``: the verb's settings as a file of settings would hold them. ``out``: the run folder of a verb that makes one.
    ``cores`` (0: all) and ``gpus``: what it takes, by its settings where None. A higher ``priority`` starts first, equal ones by age.

    Raises: UsageError for a verb or settings that cannot be, and for more than this machine has.
    """
    found = verbs.find(verb)
    settings = validate(found.module.Config, arguments)
    cores, gpus = resources.wants(verb, settings, cores, gpus)
    place, makes = _root(root), getattr(settings, "writes", found.writes) == "new run"
    if out is not None and not makes:
        raise UsageError(f"a run folder to make was given, and `convsmith {verb}` makes none; leave it out")
    run, named = out, getattr(settings, "run", None)
    if run is None and named and not makes:
        run = runs.find(named, place)
    request = {
        "verb": verb,
        "arguments": given(settings),
        "run": str(Path(run).expanduser().absolute()) if run is not None else None,
        "makes": makes,
        "about": Path(str(getattr(settings, "data", "") or getattr(settings, "paper", ""))).name,
        "priority": priority,
        "cores": cores,
        "gpus": gpus,
        "submitted": job.now(),
        "cwd": str(Path.cwd()),
    }
    with store.table(place) as table:
        number = table.execute("INSERT INTO jobs (status, priority) VALUES ('queued', ?)", (priority,)).lastrowid
        assert number is not None
        folder = job.folder_of(place, number)
        with files.writing(folder):
            folder.mkdir(exist_ok=True)
        job.write(folder / job.REQUEST, request)
    return number


def jobs(*, root: str | Path | None = None, ended: int = 1000) -> list[Job]:
    """Return the jobs that wait and run, in the order of starting, then the last ``ended`` that ended, the newest first."""
    place = _root(root)
    if not job.place(place).exists():
        return []
    try:
        with store.table(place) as table:
            active = store.rows(table, "started", "queued")
            over = store.ended(table, place, ended)
    except ResourceError:  # on a full disk the table cannot even be made; the folders can be read, and they are the truth
        return _from_folders(place, ended)
    active.sort(key=lambda row: (row.status == "queued", -row.priority, row.id))
    known = [_described(place, row) for row in active]
    just_ended = [found for found in known if not found.active]
    return [found for found in known if found.active] + sorted(just_ended + over, key=lambda found: -found.id)[:ended]


def _from_folders(place: Path, ended: int) -> list[Job]:
    """Return the jobs in the order of ``jobs`` without the table."""
    found = []
    for folder in (job.place(place) / "jobs").glob("[0-9]*"):
        with contextlib.suppress(UsageError, ValueError, KeyError):  # a request that was never written whole is no job
            found.append(job.from_folder(folder))
    active = sorted((one for one in found if one.active), key=lambda one: (one.status == "queued", -one.priority, one.id))
    return active + sorted((one for one in found if not one.active), key=lambda one: -one.id)[:ended]


def get(number: int, *, root: str | Path | None = None) -> Job:
    """Return one job; `UsageError` when there is none of that number."""
    place = _root(root)
    with store.table(place) as table:
        row = store.row(table, number)
    return _described(place, row)


def abort(number: int, *, root: str | Path | None = None) -> Job:
    """Take a waiting job out, or ask a running one to stop: SIGINT, which saves its state, then SIGTERM, then SIGKILL.

    Asking twice is well.

    Raises: UsageError when it has ended already, or there is none of that number.
    """
    place = _root(root)
    with store.table(place) as table:
        row = store.row(table, number)
        found = _described(place, row)
        if not found.active and found.status != "aborted":
            raise UsageError(f"job {number} has already ended: {found.status}")
        if row.status == "queued":
            job.end(found.folder, "aborted", "taken out of the queue before it began", seconds=0.0)
            store.settle(table, job.from_folder(found.folder))
        elif found.active:
            (found.folder / job.ABORT).touch()
    return get(number, root=place)


def resume(run: str | Path, *, root: str | Path | None = None, priority: int = 0) -> int:
    """Put a job into the queue that goes on with a run that was interrupted, failed or killed; return its number.

    Raises: UsageError when the run is finished, cannot be resumed, or a job of this queue is at work on it.
    """
    place = _root(root)
    folder = runs.find(run, place).absolute()
    begun = runs.open(folder)
    resuming.check(begun)
    for other in jobs(root=place, ended=0):
        # a job whose run has ended may take a few seconds to leave; what it held is given on when it has
        over = begun.status != "running" and other.status in ("running", "stopping")
        if other.run is not None and other.run == folder and other.verb not in READERS and not over:
            raise UsageError(f"job {other.id} is at work on {folder} ({other.status}); wait for it, or abort it")
    settings = validate(verbs.find(begun.verb).module.Config, begun.config)
    cores, gpus = resources.wants(begun.verb, settings, None, None)
    return submit("resume", {"run": str(folder)}, root=place, cores=cores, gpus=gpus, priority=priority)


def prioritise(number: int, priority: int, *, root: str | Path | None = None) -> Job:
    """Give a waiting job another priority; the higher starts first.

    Raises: UsageError when it is no longer waiting.
    """
    place = _root(root)
    with store.table(place) as table:
        row = store.row(table, number)
        if row.status != "queued":
            raise UsageError(f"job {number} is {_described(place, row).status}; only a waiting job can be moved")
        request = job.read(job.folder_of(place, number) / job.REQUEST) or {}
        job.write(job.folder_of(place, number) / job.REQUEST, request | {"priority": priority})
        table.execute("UPDATE jobs SET priority = ? WHERE id = ?", (priority, number))
    return get(number, root=place)


@dataclass(frozen=True)
class Queue:
    """The queue of one runs folder with a worker behind it: what `submit` and `resume` take is started without further ado.

    Every method may be called from any thread and any process.
    """

    root: Path

    def submit(self, verb: str, arguments: Mapping[str, Any], *, priority: int = 0) -> int:
        """Take a job, see that a worker lives, and return its number; `UsageError` for settings that cannot be."""
        number = submit(verb, arguments, root=self.root, priority=priority)
        starting.ensure_worker(self.root)
        return number

    def jobs(self) -> list[Job]:
        """Return the jobs that wait and run, then those that ended, the newest first."""
        return jobs(root=self.root)

    def get(self, number: int) -> Job:
        """Return one job; `UsageError` when there is none of that number."""
        return get(number, root=self.root)

    def abort(self, number: int) -> Job:
        """Stop a running job as Ctrl-C does, or take a waiting one out; `UsageError` when it has ended."""
        return abort(number, root=self.root)

    def resume(self, run: str | Path) -> int:
        """Go on with a run that did not come to its end, and return the number of the job that does."""
        number = resume(run, root=self.root)
        starting.ensure_worker(self.root)
        return number

    def prioritise(self, number: int, priority: int) -> Job:
        """Give a waiting job another priority; `UsageError` when it is no longer waiting."""
        return prioritise(number, priority, root=self.root)


def _described(place: Path, row: store.Row) -> Job:
    found = job.from_folder(job.folder_of(place, row.id))
    return replace(found, status="starting") if row.status == "started" and found.status == "queued" else found


def _root(root: str | Path | None) -> Path:
    return (runs.root() if root is None else Path(root)).expanduser().absolute()
