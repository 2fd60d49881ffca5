"""The queue: all jobs, and the page of one."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from convsmith import runs
from convsmith.errors import ConvsmithError
from convsmith.jobs.configuration import validate
from convsmith.jobs.verbs import find
from convsmith.queue import Job
from convsmith.studio import instructions
from convsmith.studio.api.jobs import found, plain, tail
from convsmith.studio.rendering import page
from convsmith.studio.state import Here

router = APIRouter()


@router.get("/jobs")
def show_all(here: Here, request: Request) -> Response:
    """Show what waits, runs and ended."""
    return page(request, "jobs.html", jobs=[plain(job) for job in here.queue.jobs()][:500])


@router.get("/jobs/{number}")
def show(here: Here, request: Request, number: int, stay: bool = False) -> Response:
    """Show a job; one that makes a run leads there as soon as the run is there."""
    job = found(here, number)
    described, said = plain(job), tail(job)
    if described["run"] and not stay and job.verb in ("resume", runs.open(here.root / described["run"]).verb):
        return RedirectResponse(f"/runs/{described['run']}", 303)
    return page(request, "job.html", job=described, log=said, text=text(job, said), told=told(job))


def text(job: Job, said: str) -> str:
    """Return what the command line would print of a job's result, "" when there is none or its log has it already."""
    result = (job.result or {}).get("result")
    if result is None:
        return ""
    try:
        told = str(find(job.verb).module.lines(result))
        return "" if told.strip() in said else told
    except (ConvsmithError, KeyError, TypeError, ValueError, AttributeError):
        return ""


def told(job: Job) -> dict[str, str]:
    """Return the command and the Python that do the same."""
    try:
        return instructions.both(job.verb, validate(find(job.verb).module.Config, job.arguments))
    except ConvsmithError:
        return {"command": "", "python": "", "yaml": ""}
