"""The pages of images and of networks."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from convsmith import models
from convsmith.studio import forms
from convsmith.studio.api.images import of_runs, source_of
from convsmith.studio.api.networks import subject
from convsmith.studio.listing import Row
from convsmith.studio.rendering import page
from convsmith.studio.state import Here, Studio
from convsmith.training.config import Augment

router = APIRouter()


@router.get("/images")
def images(here: Here, request: Request, source: Annotated[str, Query(max_length=4096)] = "") -> Response:
    """Show one source of images, or what there is to look at and how to add some."""
    if not source:
        uploaded = [str(path) for path in here.uploads.finished()]
        known = list(dict.fromkeys(["digits", *uploaded, *of_runs(here)]))
        return page(request, "sources.html", sources=known, uploads=here.uploads.folder, limit_mb=here.settings.upload_mb)
    here.roots.check(source)
    told = {
        "command": f"convsmith check {shlex.quote(source)}",
        "python": f"from convsmith import data\n\ndataset = data.open({source!r})\nprint(dataset.counts())",
        "yaml": "",
    }
    return page(request, "images.html", source=source, told=told, fields=forms.inputs(Augment), trained=trained_on(here, source))


def trained_on(here: Studio, source: str, most: int = 300) -> list[Row]:
    """Return the recent runs that were made with a source, the newest first."""
    name = Path(source).name
    rows = [row for row in reversed(here.listing.rows()) if row.address and row.data in (source, name)][:most]
    return [row for row in rows if source_of(here.root / row.folder) == source]


@router.get("/networks")
def networks(here: Here, request: Request, name: Annotated[str, Query(max_length=255)] = "") -> Response:
    """Show the architectures, or one drawn."""
    if name:
        subject(here, name)
        entry = models.ZOO.get(name)
        return page(request, "network.html", name=name, entry=entry, told={"command": f"convsmith inspect {shlex.quote(name)}"})
    return page(request, "networks.html", entries=models.ZOO)
