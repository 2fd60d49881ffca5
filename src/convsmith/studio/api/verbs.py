"""The verbs: their schemas and forms, and what the settings of a form come to."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from convsmith.errors import UsageError
from convsmith.jobs import presets
from convsmith.jobs.configuration import merge, validate
from convsmith.jobs.verbs import BELOW, VERBS, Verb, find
from convsmith.studio import forms, instructions
from convsmith.studio.missing import NotFound
from convsmith.studio.state import Here, Json, Studio
from convsmith.training.config import Schedule
from convsmith.training.schedules import factor

router = APIRouter(tags=["verbs"])

POINTS = 400


class Asked(BaseModel):
    """A job: ``settings`` nested as in a file of settings, or ``typed`` as the texts of the form, where lists of numbers combine."""

    model_config = ConfigDict(extra="forbid")
    verb: str = Field(max_length=60)
    settings: dict[str, Any] | None = None
    typed: dict[str, Any] | None = None
    preset: str = Field("", max_length=60)


class Rate(BaseModel):
    """A schedule of the learning rate to look at."""

    model_config = ConfigDict(extra="forbid")
    schedule: dict[str, Any] = Field(default_factory=dict)
    learning_rate: float = Field(0.05, gt=0, le=1e6)
    epochs: float = Field(20, gt=0, le=1e6)


@router.get("/verbs")
def list_verbs() -> Json:
    """List what can be done."""
    return Json({"verbs": [asdict(verb) for verb in offered()]})


@router.get("/verbs/{name}")
def get_verb(name: str) -> Json:
    """Tell the settings of a verb as JSON Schema, and the fields of its form."""
    verb = known(name)
    schema = verb.module.Config
    fields = [asdict(item) for item in forms.inputs(schema)]
    return Json({"verb": asdict(verb), "schema": schema.model_json_schema(), "fields": fields, "presets": presets.PRESETS.get(name, {})})


@router.post("/verbs/describe")
def describe(here: Here, asked: Asked) -> Json:
    """Check settings without starting anything, and tell the command line and the Python that do the same, for each combination."""
    configs = composed(here, asked)
    return Json({"jobs": [instructions.both(asked.verb, config) for config in configs]})


@router.post("/schedule")
def schedule(asked: Rate) -> Json:
    """Tell the learning rate over the epochs of a schedule."""
    found = validate(Schedule, asked.schedule)
    if found.warmup >= asked.epochs:
        raise UsageError(f"warmup of {found.warmup:g} epochs leaves nothing of {asked.epochs:g} epochs")
    x = [asked.epochs * index / POINTS for index in range(POINTS)]
    try:
        y = [asked.learning_rate * factor(found, epoch, asked.epochs) for epoch in x]
    except OverflowError:
        raise UsageError("this schedule leaves the range of numbers; make gamma or power smaller") from None
    return Json({"x": x, "y": y})


@router.get("/paths")
def paths(here: Here, prefix: Annotated[str, Query(max_length=4096)] = "") -> Json:
    """Complete a path on the server, inside the allowed folders only."""
    if "\0" in prefix:
        return Json({"paths": []})
    base = Path(prefix).expanduser() if prefix else None
    if base is None:
        return Json({"paths": [f"{folder}/" for folder in here.roots.folders]})
    folder, start = (base, "") if prefix.endswith("/") else (base.parent, base.name)
    if not here.roots.contains(folder):
        return Json({"paths": [f"{root}/" for root in here.roots.folders if str(root).startswith(prefix)]})
    try:
        found = sorted(item for item in folder.iterdir() if item.name.startswith(start) and (start or not item.name.startswith(".")))
    except OSError:
        found = []
    return Json({"paths": [f"{item}/" if item.is_dir() else str(item) for item in found if here.roots.contains(item)][:50]})


def offered() -> list[Verb]:
    """Return the verbs that a form can start. A run is resumed on its own page; `serve` runs until Ctrl-C, and jobs come to an end."""
    return [verb for verb in (*VERBS.values(), *BELOW.values()) if verb.name not in ("resume", "serve")]


def known(name: str) -> Verb:
    """Return a verb that a form can start.

    Raises: NotFound when there is none.
    """
    if name not in {verb.name for verb in offered()}:
        raise NotFound(f"there is no verb {name!r}; there are {', '.join(verb.name for verb in offered())}")
    return find(name)


def composed(here: Studio, asked: Asked) -> list[BaseModel]:
    """Return the validated settings of every combination, each inside the allowed folders.

    Raises: UsageError for settings that cannot be; Outside for a path that is not allowed.
    """
    schema = known(asked.verb).module.Config
    preset = presets.find(asked.verb, asked.preset) if asked.preset else {}
    given = forms.settings(schema, asked.typed) if asked.typed is not None else [asked.settings or {}]
    made = []
    for settings in given:
        here.roots.check(settings)
        made.append(validate(schema, merge(preset, settings)))
    return made
