"""Sweeps: all of them, and the trials of one, drawn while they come in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from convsmith import runs
from convsmith.jobs.resume import is_resumable
from convsmith.report.sections import trials
from convsmith.report.source import Source, quietly
from convsmith.runs import notes
from convsmith.studio.pages.run import told
from convsmith.studio.rendering import page
from convsmith.studio.state import Here

router = APIRouter()

#: So many sweeps are listed; the table of runs finds the older ones.
MOST = 200


@router.get("/sweeps")
def show_all(here: Here, request: Request) -> Response:
    """Show the sweeps there are, the newest first."""
    found = [row for row in here.listing.select(verb="sweep") if row.address][:MOST]
    return page(request, "sweeps.html", rows=[{"row": row, **progress(stored(here.run(row.name)))} for row in found])


@router.get("/sweeps/{name}")
def show(here: Here, request: Request, name: str) -> Response:
    """Show one sweep: settings against results, what mattered, and the table of trials."""
    run = here.run(name)
    status = run.status
    content, fault = quietly(trials.build, Source(run, ()))
    rows = content["rows"] if content else ()
    return page(
        request,
        "sweep.html",
        run=run,
        status=status,
        title=notes.read(run.folder),
        sweep=progress(stored(run)),
        content=content,
        fault=fault,
        best=next((row for row in rows if row["trial"] == content["best"]), None) if content else None,
        here={row["run"] for row in rows if row["run"] and (run.folder.parent / row["run"] / "run.json").is_file()},
        resumable=status in ("stopped", "interrupted", "failed") and is_resumable(run.verb),
        told=told(run),
        job=next((job for job in here.queue.jobs() if job.run is not None and job.run.name == run.name), None),
    )


def stored(run: runs.Run) -> Mapping[str, Any]:
    """Return what a sweep has found so far, with its trials' runs by name; {} before the first word, or where it cannot be read."""
    found, _ = quietly(lambda source: source.table("sweep.json"), Source(run, ()))
    if not found:
        return {}
    return {**found, "rows": [{**row, "run": Path(row["run"]).name if row.get("run") else None} for row in found.get("rows", ())]}


def progress(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is varied, how many trials have ended, and the best."""
    spec = found.get("spec", {})
    ended = sum(row.get("state") in ("finished", "pruned", "failed") for row in found.get("rows", ()))
    told = {"over": spec.get("over", []), "metric": spec.get("metric", ""), "all": spec.get("trials", 0)}
    return {**told, "ended": ended, "best": found.get("best")}
