"""Networks: the names there are, and one drawn with what each layer costs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from convsmith import models
from convsmith.studio.missing import NotFound
from convsmith.studio.state import Here, Json, Studio

router = APIRouter(tags=["networks"])


@router.get("/networks")
def list_networks() -> Json:
    """List the architectures with what their sources published."""
    shown = ("family", "input", "classes", "source", "parameters", "macs", "smallest")
    return Json({"networks": [{"name": name} | {key: getattr(entry, key) for key in shown} for name, entry in models.ZOO.items()]})


@router.get("/network")
def draw(
    here: Here,
    name: Annotated[str, Query(max_length=255, description="An architecture, or a run")],
    size: Annotated[int | None, Query(ge=1, le=1024)] = None,
    channels: Annotated[int | None, Query(ge=1, le=64)] = None,
    classes: Annotated[int | None, Query(ge=1, le=100_000)] = None,
) -> Json:
    """Tell the nodes of a network, which reads which, and what each costs."""
    return Json(here.looker.ask("draw", name=subject(here, name), size=size, channels=channels, classes=classes))


def subject(here: Studio, name: str) -> str:
    """Return what the network is called by for `inspect`: a name of the zoo, or the folder of a run.

    Raises: NotFound for anything else: files are looked at with `inspect`.
    """
    if name in models.ZOO:
        return name
    if (here.root / name).is_dir() and not any(mark in name for mark in "/\\\0"):
        return str(here.run(name).folder)
    raise NotFound(f"there is no network {name[:100]!r}: neither an architecture nor a run")
