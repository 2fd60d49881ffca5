"""What surrounds every job: its run folder, and how the run ends, whatever happens."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Callable, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel

from convsmith import runs
from convsmith.errors import ConvsmithError, ResourceError, UsageError
from convsmith.jobs import sources, verbs
from convsmith.jobs.configuration import command, given, validate


@dataclass(frozen=True)
class Outcome:
    """What a job returned, and the run folder it wrote, if any, with its page."""

    verb: str
    result: Mapping[str, Any]
    folder: Path | None
    report: Path | None = None


@dataclass
class Watch:
    """Who is told: ``show`` gets progress, ``hear`` gets events, ``began`` the run folder as soon as there is one."""

    show: Callable[[runs.Progress], None] | None = None
    hear: Callable[[str, Mapping[str, Any]], None] | None = None
    folder: Path | None = field(default=None, init=False)


def perform(verb: str, config: BaseModel | Mapping[str, Any], *, out: str | Path | None = None, watch: Watch | None = None) -> Outcome:
    """Run a job with its record. ``out``: the run folder of a verb that makes one; a dated name under the runs folder by default.

    When the job fails or is interrupted, the run says so and stays readable; the error goes on to the caller.
    Raises: UsageError for settings that cannot be, and whatever the job raises, as a `ConvsmithError` where it is one of space or memory.
    """
    job, watch = verbs.find(verb), watch or Watch()
    module = job.module
    settings = config if isinstance(config, BaseModel) else validate(module.Config, config)
    record, ends = _record(job, settings, out)
    if record is None:
        with _told(None):
            return Outcome(verb, module.run(settings, runs.Unrecorded(watch.show, watch.hear)), None)
    watch.folder = record.folder
    record.show_progress(watch.show)
    record.hear = watch.hear
    with _told(record if ends else None):
        result = module.run(settings, record)
    if ends:
        record.finish("finished", **result.get("summary", {}))
    return Outcome(verb, result, watch.folder, _report(record))


def _record(job: verbs.Verb, settings: BaseModel, out: str | Path | None) -> tuple[runs.Record | None, bool]:
    """Return the record of a job, and whether the job's end is the run's end."""
    writes = getattr(settings, "writes", job.writes)
    if writes == "new run":
        data = _required(job, settings)
        words = command(job.name, settings)
        return runs.create(out, job.name, given(settings), data=Path(data).name or data, command=words), True
    run = getattr(settings, "run", None)
    if out is not None:
        raise UsageError(f"--out names a new run folder, and `convsmith {job.name}` writes into the run it is given; leave it out")
    if writes == "nothing" or run is None:
        return None, False
    folder = runs.find(run, runs.root())
    if writes == "resumed run":
        job.module.check(runs.open(folder))
        return runs.resume(folder, command=command(job.name, settings)), True
    return runs.attach(folder), False


def _required(job: verbs.Verb, settings: BaseModel) -> str:
    """Refuse a run whose images are not there, before a folder is made for it, and return what the run is about."""
    if hasattr(job.module, "require"):
        return str(job.module.require(settings))
    data = str(getattr(settings, "data", ""))
    sources.require(data)
    return data


@contextmanager
def _told(record: runs.Record | None) -> Any:
    """Note how the block ended in ``record``; turn errors of space and memory into `ResourceError`."""
    try:
        yield
    except KeyboardInterrupt:
        _end(record, "interrupted", None)
        raise
    except BaseException as error:
        known = _as_known(error)
        message = str(known) if isinstance(known, ConvsmithError) else f"{type(known).__name__}: {known}"
        if record is not None and not isinstance(known, ConvsmithError):
            with suppress(ConvsmithError, OSError):
                record.event("crash", traceback=traceback.format_exception(error))
        _end(record, "failed", message)
        if known is not error:
            raise known from error
        raise


def _end(record: runs.Record | None, status: str, error: str | None) -> None:
    if record is not None:
        with suppress(ConvsmithError, OSError):  # on a full disk the run reads as stopped instead
            record.finish(status, error=error)


def _as_known(error: BaseException) -> BaseException:
    if isinstance(error, ConvsmithError):
        return error
    if isinstance(error, MemoryError) or "not enough memory" in str(error) or "out of memory" in str(error):
        return ResourceError("the memory ran out; use a smaller batch (--batch), smaller images (--size) or fewer --workers")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" while writing {error.filename}" if error.filename else ""
        return ResourceError(f"the disk is full{where}; free some space or choose another folder with --out")
    return error


def _report(record: runs.Record) -> Path:
    from convsmith import report

    return report.write(record.folder)


def quote(verb: str, config: BaseModel) -> dict[str, Any]:
    """Return what a job would do and what it would take, without doing it."""
    return cast(dict[str, Any], runs.plain(verbs.find(verb).module.quote(config)))
