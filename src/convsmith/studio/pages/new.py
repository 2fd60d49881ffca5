"""A new job: which verb, and its form, made from the schema of the command line."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from convsmith.jobs import presets
from convsmith.studio import forms
from convsmith.studio.api.verbs import known, offered
from convsmith.studio.rendering import page
from convsmith.studio.state import Here, Studio

router = APIRouter()

#: Settings of `train` and `forge` that a beginner needs; the others are folded away.
FIRST = (
    *("data", "run", "images", "network", "model", "weights", "strategy", "time", "epochs", "batch", "learning_rate"),
    *("target", "to", "paper", "over", "fixed", "sampler", "trials"),
)


@router.get("/new")
def choose(request: Request) -> Response:
    """Show what can be done."""
    return page(request, "verbs.html", verbs=offered())


@router.get("/new/{verb}")
def form(here: Here, request: Request, verb: str, clone: Annotated[str, Query(max_length=255)] = "") -> Response:
    """Show the form of a verb; ``clone`` fills it as a run was started, other values of the query fill single fields."""
    found = known(verb)
    fields = forms.inputs(found.module.Config)
    names = {item.name for item in fields}
    filled = forms.typed(here.run(clone).config) if clone else {}
    filled |= {key: value for key, value in request.query_params.items() if key in names}
    return page(
        request,
        "new.html",
        verb=found,
        root=here.root,
        first=[item for item in fields if item.required or item.name in FIRST],
        more=[item for item in fields if not item.required and item.name not in FIRST],
        filled=filled,
        clone=clone,
        presets=presets.PRESETS.get(verb, {}),
        has_resizing={"data", "resize"} <= names,
        has_networks={"model", "weights"} <= names,
        trained=[row.name for row in reversed(here.listing.rows()) if row.model and row.address][:200],
        has_schedule=any(item.name == "training" for item in fields),
        names=suggestions(here),
    )


def suggestions(here: Studio) -> dict[str, list[str]]:
    """Return what may be typed into fields that name runs, images or networks."""
    from convsmith import models

    rows = list(reversed(here.listing.rows()))
    trained = [row.name for row in rows if row.model][:200]
    datasets = [str(path) for path in here.uploads.finished()]
    known_data = [row.data for row in rows if row.verb in ("train", "forge")]
    return {
        "run": ["last", *trained],
        "data": list(dict.fromkeys(["digits", *datasets, *known_data]))[:200],
        "model": ["auto", *models.ZOO],
        "network": [*trained, *models.ZOO],
        "weights": [str(here.root / name / "weights.safetensors") for name in trained],
    }
