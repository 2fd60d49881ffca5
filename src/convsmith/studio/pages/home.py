"""The first page: what runs now, and the table of all runs."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from convsmith.studio import curves
from convsmith.studio.listing import GROUPS, Row, page_of
from convsmith.studio.rendering import page
from convsmith.studio.state import Here, Studio

router = APIRouter()

COLUMNS = {
    "name": "Run",
    "group": "Group",
    "verb": "Verb",
    "data": "Data",
    "model": "Network",
    "parameters": "Parameters",
    "top1": "Accuracy",
    "seconds": "Training",
    "status": "Status",
    "created": "Begun",
}
#: Those that stand there until somebody picks others, which a cookie of that name then remembers.
USUAL = ("verb", "data", "model", "top1", "status", "created")
COOKIE = "columns"
STATUSES = ("running", "finished", "failed", "interrupted", "stopped", "unreadable")
MOST_LIVE = 20
SPARK_POINTS = 60


@router.get("/")
def home(
    here: Here,
    request: Request,
    text: Annotated[str, Query(max_length=200)] = "",
    status: Annotated[str, Query(max_length=20)] = "",
    verb: Annotated[str, Query(max_length=40)] = "",
    sort: Annotated[str, Query(max_length=20)] = "created",
    order: Annotated[str, Query(max_length=4)] = "down",
    by: Annotated[str, Query(max_length=20)] = "",
    page_number: Annotated[int, Query(alias="page", ge=1, le=1_000_000)] = 1,
) -> Response:
    """Show running runs with how far they are, and one page of the others."""
    found = here.listing.select(text=text, status=status, verb=verb, sort=sort, descending=order != "up", by=by)
    rows, pages = page_of(found, page_number)
    asked = {"text": text, "status": status, "verb": verb, "sort": sort, "order": order, "by": by if by in GROUPS else ""}
    everything = here.listing.rows()

    def link(**changed: Any) -> str:
        return "/?" + urlencode({key: value for key, value in (asked | changed).items() if value})

    return page(
        request,
        "home.html",
        rows=rows,
        live=[live(here, row) for row in here.listing.running()[:MOST_LIVE]],
        waiting=[job for job in here.queue.jobs() if job.active and (job.run is None or not (job.run / "run.json").exists())],
        total=len(found),
        all=len(everything),
        pages=pages,
        number=min(page_number, pages),
        asked=asked,
        link=link,
        columns=COLUMNS,
        picked=picked(request),
        groups=GROUPS,
        statuses=STATUSES,
        verbs=sorted({row.verb for row in everything}),
        root=here.root,
    )


def picked(request: Request) -> tuple[str, ...]:
    """Return the columns that stand in the table beside the name, in their own order."""
    asked = request.cookies.get(COOKIE)
    return tuple(key for key in COLUMNS if key in (USUAL if asked is None else asked.split(".")) and key != "name")


def live(here: Studio, row: Row) -> dict[str, Any]:
    """Return how far a run is, the time left and the points of its small curve."""
    found = curves.of_run(here.root / row.folder, SPARK_POINTS)
    last = found["progress"]
    series = found["series"]["val_loss"]["y"] or found["series"]["loss"]["y"]
    share = min(1.0, last["done"] / last["total"]) if last and last.get("total") else None
    return {"row": row, "stage": last["stage"] if last else "", "share": share, "left_s": found["left_s"], "spark": spark(series)}


def spark(values: list[float], width: float = 120, height: float = 28) -> str:
    """Return the points of a small curve for an SVG polyline, "" for fewer than two values."""
    if len(values) < 2:
        return ""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    step = width / (len(values) - 1)
    return " ".join(f"{index * step:.1f},{2 + (height - 4) * (high - value) / span:.1f}" for index, value in enumerate(values))
