"""Sweeps as JSON."""

from __future__ import annotations

from fastapi import APIRouter

from convsmith.studio.missing import NotFound
from convsmith.studio.pages.sweeps import stored
from convsmith.studio.state import Here, Json

router = APIRouter(tags=["sweeps"])


@router.get("/sweeps/{name}")
def get_sweep(here: Here, name: str) -> Json:
    """Tell the trials of a sweep, the best one, and the share of each setting in what made the difference.

    Raises: NotFound when there is no such run, or it is no sweep.
    """
    run = here.run(name)
    found = stored(run)
    if not found:
        raise NotFound(f"{name} is no sweep with trials; it is a run of {run.verb}")
    return Json({"status": run.status, **found})
