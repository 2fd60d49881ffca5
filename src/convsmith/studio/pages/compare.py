"""Two runs beside each other, with a paired test, and what the machine does."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from convsmith import runs
from convsmith.errors import ConvsmithError
from convsmith.runs.comparison import differences
from convsmith.studio import curves
from convsmith.studio.rendering import page
from convsmith.studio.state import Here

router = APIRouter()

Name = Annotated[str, Query(max_length=255)]


@router.get("/compare")
def compare(here: Here, request: Request, a: Name = "", b: Name = "") -> Response:
    """Show two runs on the images both were tested on; where that cannot be, their curves and settings alone, with the reason."""
    found, problem, told, differ = None, "", [], {}
    if a and b:
        first, second = here.run(a), here.run(b)
        try:
            found = runs.compare(first.folder, second.folder)
        except ConvsmithError as error:
            problem = str(error)
        told = [{"name": run.name, **curves.of_run(run.folder)} for run in (first, second)]
        differ = differences(first.config, second.config)
    names = [row.name for row in reversed(here.listing.rows()) if row.address][:300]
    return page(request, "compare.html", a=a, b=b, found=found, problem=problem, curves=told, differences=differ, names=names)


@router.get("/machine")
def machine(here: Here, request: Request) -> Response:
    """Show the load of the machine and which folders the studio may use."""
    return page(request, "machine.html", root=here.root, folders=here.roots.folders)
