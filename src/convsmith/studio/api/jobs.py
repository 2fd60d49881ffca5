"""Jobs: started, listed, stopped, and what they said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import PlainTextResponse

from convsmith.errors import UsageError
from convsmith.jobs.configuration import given
from convsmith.queue import Job
from convsmith.studio.api.verbs import Asked, composed
from convsmith.studio.missing import NotFound
from convsmith.studio.state import Here, Json, Studio

router = APIRouter(tags=["jobs"])

LOG_BYTES = 256 << 10


class Place(BaseModel):
    """Where a waiting job stands: a higher priority starts first, equal ones by age."""

    model_config = ConfigDict(extra="forbid")
    priority: int = Field(ge=-1000, le=1000)


@router.post("/jobs")
def start(here: Here, asked: Asked) -> Json:
    """Start a job, or one for each combination of the lists in it; each is a process of its own that outlives the server."""
    return Json({"jobs": [here.queue.submit(asked.verb, given(config)) for config in composed(here, asked)]})


@router.get("/jobs")
def list_jobs(here: Here) -> Json:
    """List the jobs: those that wait and run, then those that ended."""
    return Json({"jobs": [plain(job) for job in here.queue.jobs()]})


@router.get("/jobs/{number}")
def get_job(here: Here, number: int) -> Json:
    """Tell how far a job is, and what it returned."""
    job = found(here, number)
    return Json(dict(plain(job)) | {"result": (job.result or {}).get("result")})


@router.post("/jobs/{number}/abort")
def abort(here: Here, number: int) -> Json:
    """Stop a job as Ctrl-C does, or take it from the queue."""
    found(here, number)
    return Json(plain(here.queue.abort(number)))


@router.put("/jobs/{number}/priority")
def prioritise(here: Here, number: int, asked: Place) -> Json:
    """Give a waiting job another priority."""
    found(here, number)
    return Json(plain(here.queue.prioritise(number, asked.priority)))


@router.get("/jobs/{number}/log", response_class=PlainTextResponse)
def log(here: Here, number: int) -> PlainTextResponse:
    """Answer the end of what a job said."""
    return PlainTextResponse(tail(found(here, number)))


def found(here: Studio, number: int) -> Job:
    """Return a job of the queue.

    Raises: NotFound when there is none of that number.
    """
    try:
        return here.queue.get(number)
    except (UsageError, OverflowError) as error:
        raise NotFound(str(error)) from None


def tail(job: Job) -> str:
    """Return the last part of a job's log."""
    try:
        with job.log.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - LOG_BYTES))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def _page(job: Job) -> str | None:
    """Return the run whose page tells of a job: its own, or the one that holds it, as a shrunk network's; None before it is there."""
    root = job.folder.parents[2]
    if job.run is None or not (job.run / "run.json").exists() or not job.run.is_relative_to(root):
        return None
    return job.run.relative_to(root).parts[0]


def plain(job: Job) -> Mapping[str, Any]:
    """Return a job as JSON tells it, without its result."""
    return {
        "id": job.id,
        "verb": job.verb,
        "arguments": job.arguments,
        "status": job.status,
        "active": job.active,
        "priority": job.priority,
        "run": _page(job),
        "submitted": job.submitted,
        "seconds": job.seconds,
        "message": job.message,
        "progress": job.progress,
    }
