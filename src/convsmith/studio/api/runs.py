"""Runs: listed, watched, noted on, stopped, gone on with and removed."""

from __future__ import annotations

import os
import signal
import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import StreamingResponse

from convsmith import runs as store
from convsmith.errors import ConvsmithError, UsageError
from convsmith.queue import Job
from convsmith.runs import notes, process
from convsmith.studio import curves, stream
from convsmith.studio.listing import PAGE, Row, page_of
from convsmith.studio.state import Here, Json, Studio, described

router = APIRouter(tags=["runs"])

PATIENCE_S = 5.0

Sort = Literal["name", "verb", "data", "status", "created", "top1", "model", "group", "parameters", "seconds"]


class Notes(BaseModel):
    """Title and notes of a run; ``version`` is that of the notes they replace."""

    model_config = ConfigDict(extra="forbid")
    title: str = Field("", max_length=notes.MOST_TITLE)
    group: str = Field("", max_length=notes.MOST_GROUP)
    text: str = Field("", max_length=notes.MOST_TEXT)
    version: int = Field(0, ge=0)


class Names(BaseModel):
    """Runs by the names of their folders."""

    model_config = ConfigDict(extra="forbid")
    names: list[str] = Field(min_length=1, max_length=1000)


class Grouped(Names):
    """Runs and the group they belong to, "" for none."""

    group: str = Field("", max_length=notes.MOST_GROUP)


@router.get("/runs")
def list_runs(
    here: Here,
    text: Annotated[str, Query(max_length=200, description="Words that a run must hold")] = "",
    status: Annotated[str, Query(max_length=20)] = "",
    verb: Annotated[str, Query(max_length=40)] = "",
    sort: Sort = "created",
    descending: bool = True,
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
) -> Json:
    """List the runs, a page of 100 at a time."""
    found = here.listing.select(text=text, status=status, verb=verb, sort=sort, descending=descending)
    rows, pages = page_of(found, page)
    return Json({"total": len(found), "page": min(page, pages), "pages": pages, "size": PAGE, "runs": [_plain(row) for row in rows]})


@router.get("/runs/{name}")
def get_run(here: Here, name: str) -> Json:
    """Tell everything a run's folder says of it: status, summary, settings, versions."""
    run = here.run(name)
    return Json(dict(described(run)) | {"config": run.config, "notes": notes.read(run.folder)})


@router.delete("/runs/{name}")
def remove_run(here: Here, name: str) -> Json:
    """Delete the folder of a run that is over, for good."""
    store.remove(here.run(name).folder)
    here.listing.rows(fresh=True)
    return Json({"removed": [name], "failed": {}})


@router.post("/runs/delete")
def remove_runs(here: Here, asked: Names) -> Json:
    """Delete several runs, and tell which could not be."""
    return Json(_each(here, asked.names, "removed", lambda name: store.remove(here.run(name).folder)))


@router.post("/runs/group")
def group_runs(here: Here, asked: Grouped) -> Json:
    """Put several runs into a group, and tell which could not be."""
    return Json(_each(here, asked.names, "grouped", lambda name: notes.put_into(here.run(name).folder, asked.group)))


@router.post("/runs/abort")
def abort_runs(here: Here, asked: Names) -> Json:
    """Stop several runs as Ctrl-C does, and tell which could not be."""
    return Json(_each(here, asked.names, "aborted", lambda name: _abort(here, name)))


@router.post("/runs/{name}/abort")
def abort_run(here: Here, name: str) -> Json:
    """Stop a run as Ctrl-C does: it keeps a checkpoint, and can be gone on with."""
    _abort(here, name)
    return Json({"aborted": [name], "failed": {}})


@router.post("/runs/{name}/resume")
def resume_run(here: Here, name: str) -> Json:
    """Go on with a run that was stopped, exactly where it was."""
    run = here.run(name)
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until and _job_of(here, run) is not None:
        time.sleep(0.1)  # an aborted job tidies up for a moment after its run says so
    return Json({"job": here.queue.resume(run.name)})


@router.get("/runs/{name}/notes")
def get_notes(here: Here, name: str) -> Json:
    """Tell the title and notes of a run."""
    return Json(notes.read(here.run(name).folder))


@router.put("/runs/{name}/notes")
def put_notes(here: Here, name: str, asked: Notes) -> Json:
    """Replace title, group and notes of a run; 409 with what is there when they are no longer of the version given."""
    made = notes.write(here.run(name).folder, title=asked.title, text=asked.text, version=asked.version, group=asked.group)
    here.listing.rows(fresh=True)
    return Json(made)


@router.get("/compare")
def compare(here: Here, a: Annotated[str, Query(max_length=255)], b: Annotated[str, Query(max_length=255)]) -> Json:
    """Compare two runs on the images both were tested on, with McNemar's paired test."""
    return Json(store.compare(here.run(a).folder, here.run(b).folder))


@router.get("/runs/{name}/curves")
def get_curves(here: Here, name: str, most: Annotated[int, Query(ge=4, le=100_000)] = curves.SHOWN) -> Json:
    """Tell the curves of a run, thinned to at most so many points each without losing an extreme."""
    return Json(curves.of_run(here.run(name).folder, most))


@router.get("/runs/{name}/events", response_class=StreamingResponse, responses={200: {"content": {"text/event-stream": {}}}})
def get_events(
    here: Here,
    request: Request,
    name: str,
    last_event_id: Annotated[str, Header(max_length=40)] = "",
    after: Annotated[str, Query(max_length=40, description="Where to begin when there is no Last-Event-ID")] = "",
) -> StreamingResponse:
    """Watch a run: server-sent events ``event``, ``progress``, ``status`` and ``gone``, from where Last-Event-ID left off."""
    folder = here.run(name).folder
    told = stream.follow(folder, last_event_id or after, request.is_disconnected, lambda: here.closing)
    return StreamingResponse(told, media_type="text/event-stream", headers={"x-accel-buffering": "no"})


def _abort(here: Studio, name: str) -> None:
    """Stop a run by its job where it has one, else by the process that its folder names."""
    run = here.run(name)
    if run.status != "running":
        raise UsageError(f"{name} is not running, it is {run.status}")
    job = _job_of(here, run)
    if job is not None:
        here.queue.abort(job.id)
        return
    owner = run.described["process"]
    if owner["host"] != process.identity()["host"]:
        raise UsageError(f"{name} runs on {owner['host']}; stop process {owner['pid']} there")
    os.kill(int(owner["pid"]), signal.SIGINT)


def _job_of(here: Studio, run: store.Run) -> Job | None:
    """Return the job that is at work on a run, None where no job of the queue is."""
    folder = run.folder.resolve()
    return next((job for job in here.queue.jobs() if job.active and job.run is not None and job.run.resolve() == folder), None)


def _each(here: Studio, names: list[str], what: str, act: Any) -> dict[str, Any]:
    done, failed = [], {}
    for name in dict.fromkeys(names):
        try:
            act(name)
            done.append(name)
        except ConvsmithError as error:
            failed[name] = str(error)
    here.listing.rows(fresh=True)
    return {what: done, "failed": failed}


def _plain(row: Row) -> dict[str, Any]:
    shown = ("name", "title", "group", "verb", "data", "status", "created", "top1", "model", "parameters", "seconds", "error")
    return {name: getattr(row, name) for name in shown}
