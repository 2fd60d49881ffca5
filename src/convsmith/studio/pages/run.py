"""The page of one run: live while it runs, everything it found afterwards."""

from __future__ import annotations

import json
import shlex
from collections import deque
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from convsmith import runs
from convsmith.errors import ConvsmithError
from convsmith.jobs.configuration import validate
from convsmith.jobs.resume import is_resumable
from convsmith.jobs.trained import kept
from convsmith.jobs.verbs import BELOW, VERBS, find
from convsmith.report.source import open_source, quietly
from convsmith.runs import notes
from convsmith.studio import curves, instructions
from convsmith.studio.api.images import source_of
from convsmith.studio.api.verbs import offered
from convsmith.studio.rendering import page
from convsmith.studio.state import Here

router = APIRouter()

LOG_LINES = 400
#: Verbs whose page has curves from the first moment.
TRAINS = ("train", "forge")


@router.get("/runs/{name}")
def show(here: Here, request: Request, name: str, stay: bool = False) -> Response:
    """Show a run; a sweep has a page of its own for its trials, and this one for everything else."""
    run = here.run(name)
    if run.verb == "sweep" and not stay:
        return RedirectResponse(f"/sweeps/{quote(name, safe='')}", 303)
    status = run.status
    jobs = [job for job in here.queue.jobs() if job.run is not None and job.run.name == run.name]
    drawn = curves.of_run(run.folder)
    evaluation, _ = quietly(lambda source: source.evaluation(), open_source(run.folder))
    return page(
        request,
        "run.html",
        run=run,
        status=status,
        title=notes.read(run.folder),
        curves=drawn,
        has_curves=run.verb in TRAINS or bool(drawn["steps"]["x"] or drawn["series"]["loss"]["x"]),
        summary=summary(run),
        told=told(run),
        classes=classes(run),
        source=source_of(run.folder),
        next=following() if run.has("weights.safetensors") else [],
        exported=exported(run),
        shrunk=shrunk(run),
        has_network=run.has("weights.safetensors"),
        kept=kept(run),
        evaluation=evaluation,
        mistakes=mistakes(run),
        resumable=status in ("stopped", "interrupted", "failed") and is_resumable(run.verb),
        log=log(run),
        job=next(iter(jobs), None),
        # the page then waits for the run to be marked as running, which the job does some seconds later
        coming=status != "running" and any(job.active and job.verb in (run.verb, "resume") for job in jobs),
    )


def summary(run: runs.Run) -> dict[str, Any]:
    """Return the plain values of a run's summary."""
    return {key: value for key, value in run.summary.items() if isinstance(value, str | int | float) and not isinstance(value, bool)}


def told(run: runs.Run) -> dict[str, str]:
    """Return the command and the Python that do the same as the run; its stored words where another version cannot read its settings."""
    try:
        if run.verb not in {**VERBS, **BELOW}:
            raise ConvsmithError(run.verb)
        return instructions.both(run.verb, validate(find(run.verb).module.Config, run.config))
    except ConvsmithError:
        return {"command": shlex.join(map(str, run.described.get("command", []))), "python": "", "yaml": ""}


def mistakes(run: runs.Run) -> list[dict[str, Any]]:
    """Return the worst mistakes with their pictures, none when the run has no such list."""
    from convsmith.report.mistakes import pictures

    found, _ = quietly(pictures, open_source(run.folder))
    return list(found or ())


def classes(run: runs.Run) -> list[str]:
    """Return the names of the classes a run knows, none before it has opened its images."""
    try:
        return [str(name) for name in run.read_json("preprocess.json")["classes"]]
    except (ConvsmithError, KeyError, TypeError):
        return []


def following() -> list[dict[str, str]]:
    """Return the verbs that take a run, with the setting that names it."""
    found = []
    for verb in (*VERBS.values(), *BELOW.values()):
        fields = verb.module.Config.model_fields
        fill = next((name for name in ("run", "network") if name in fields), None)
        if fill and verb in offered():
            found.append({"name": verb.name, "help": verb.help, "fill": fill})
    return found


def exported(run: runs.Run) -> str | None:
    """Return what is said of the exported file: its name, and how it agrees with the network."""
    if not run.has("export.json"):
        return None
    try:
        told = run.read_json("export.json")
        return f"{told['path']}: {told['parity']['different']} of {told['parity']['images']:,} images are predicted otherwise by the file"
    except (ConvsmithError, KeyError, TypeError, ValueError):
        return None


def shrunk(run: runs.Run) -> dict[str, Any] | None:
    """Return the frontier that `shrink` found: the networks with their accuracy, time and size, and which one it would take."""
    shown = ("name", "ms", "file_bytes", "frontier", "folder")
    try:
        told = run.read_json("shrink.json") if run.has("shrink.json") else {}
        rows = [{key: row[key] for key in shown} | {"accuracy": (row["test"] or row)["accuracy"]} for row in told.get("points", ())]
        return {"points": rows, "chosen": told["chosen"], "max_drop": told["max_drop"], "torch_ms": told["torch_ms"]} if rows else None
    except (ConvsmithError, KeyError, TypeError):
        return None


def log(run: runs.Run) -> list[dict[str, Any]]:
    """Return the last events as lines of a log."""
    return [
        {
            "time": str(line.get("time", "")),
            "kind": str(line.get("kind", "")),
            "text": _text({key: value for key, value in line.items() if key not in ("time", "kind")}),
        }
        for line in deque(run.events(), LOG_LINES)
    ]


def _text(fields: dict[str, Any]) -> str:
    if isinstance(fields.get("traceback"), list):
        return "".join(map(str, fields["traceback"]))
    return "  ".join(f"{key} {value if isinstance(value, str) else json.dumps(value)}" for key, value in fields.items())[:4000]
