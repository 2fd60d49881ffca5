"""Labelled images: read, counted, shown one by one, checked, and seen as the network will see them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from convsmith import data, runs
from convsmith.data.findings import KINDS
from convsmith.errors import ConvsmithError
from convsmith.jobs.settings import ResizeMode
from convsmith.studio import pictures
from convsmith.studio.galleries import Gallery, mean_image, rows_of
from convsmith.studio.missing import NotFound
from convsmith.studio.state import Here, Json, Studio

router = APIRouter(prefix="/images", tags=["images"])

Source = Annotated[str, Query(max_length=4096, description="A folder or file on the server, or 'digits'")]
Part = Annotated[str, Query(max_length=10, description="train, val or test")]
Index = Annotated[int, Query(ge=0, le=2**31)]
Side = Annotated[int, Query(ge=8, le=1024)]

MOST_SHOWN = 60


class Augmented(BaseModel):
    """What augmentation to look at; ``augment`` null shows what would be chosen for the images."""

    model_config = ConfigDict(extra="forbid")
    source: str = Field(max_length=4096)
    augment: dict[str, Any] | None = None
    rows: int = Field(6, ge=1, le=12)
    epochs: int = Field(6, ge=1, le=12)
    seed: int = Field(0, ge=0, le=2**31)


@router.get("/sources")
def sources(here: Here) -> Json:
    """List the images that are known: the bundled digits, what was uploaded, what runs were trained on."""
    uploaded = [{"source": str(path), "name": path.name, "from": "upload"} for path in here.uploads.finished()]
    known = [{"source": place, "name": Path(place).name, "from": "runs"} for place in of_runs(here)]
    found = {item["source"]: item for item in [{"source": "digits", "name": "digits", "from": "bundled"}, *known, *uploaded]}
    return Json({"sources": list(found.values())})


def of_runs(here: Studio, most: int = 200) -> list[str]:
    """Return the allowed sources that recent runs were trained on."""
    found: dict[str, None] = {}
    for row in list(reversed(here.listing.rows()))[:most]:
        place = source_of(here.root / row.folder)
        if place == "digits" or (place and here.roots.contains(Path(place)) and Path(place).exists()):
            found[place] = None
    return list(found)


def source_of(folder: Path) -> str:
    """Return the images that a run was made with, as its folder tells them; "" when it does not."""
    try:
        return str(runs.open(folder).read_json("dataset.json")["open"]["data"])
    except (ConvsmithError, KeyError, TypeError):
        return ""


@router.get("/look")
def look(here: Here, source: Source, again: bool = False) -> Json:
    """Begin to read images, or tell how far that is; when it is ready, what was found and what was left out, with the reason."""
    gallery = opened(here, source, again=again)
    told = gallery.opening.told()
    if gallery.opening.state == "ready":
        told |= described(gallery)
    return Json(told)


def opened(here: Studio, source: str, *, again: bool = False) -> Gallery:
    """Return a source of images inside the allowed folders, which may still be being read.

    Raises: Outside for any other place.
    """
    here.roots.check(source)
    return here.galleries.open({"data": source}, again=again)


def described(gallery: Gallery) -> dict[str, Any]:
    """Return what is there: classes, counts of each part, sizes, problems."""
    dataset = gallery.dataset
    return {
        "name": dataset.name,
        "classes": dataset.classes,
        "channels": dataset.channels,
        "counts": {name: counts.tolist() for name, counts in dataset.counts().items()},
        "parts": {name: len(split) for name, split in dataset.splits.items()},
        "problems": [vars_of(problem) for problem in dataset.problems[:500]],
        "left_out": sum(problem.left_out for problem in dataset.problems),
        "notes": dataset.notes,
    }


def vars_of(record: Any) -> dict[str, Any]:
    """Return the fields of a record as plain values."""
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


@router.get("/gallery")
def gallery(
    here: Here,
    source: Source,
    part: Part = "train",
    label: Annotated[int | None, Query(ge=0, description="Number of a class; all without it")] = None,
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    size: Annotated[int, Query(ge=1, le=200)] = 48,
) -> Json:
    """List one page of the images of a part, of one class or of all."""
    found = opened(here, source)
    split = found.split(part)
    rows = rows_of(split, label)
    pages = max(1, -(-len(rows) // size))
    page = min(page, pages)
    chosen = rows[(page - 1) * size : page * size]
    shown = [{"index": int(row), "name": split.name(int(row)), "label": int(split.labels[row])} for row in chosen]
    return Json({"total": len(rows), "page": page, "pages": pages, "images": shown})


@router.get("/picture", response_class=Response, responses={200: {"content": {"image/png": {}}}})
def picture(here: Here, source: Source, part: Part = "train", index: Index = 0, side: Side = pictures.SIDE_PX) -> Response:
    """Answer one image as a PNG, reduced to a side."""
    return shown(pictures.png(opened(here, source).image(part, index), side))


@router.get("/mean", response_class=Response, responses={200: {"content": {"image/png": {}}}})
def mean(here: Here, source: Source, part: Part = "train") -> Response:
    """Answer the mean of up to 500 images of a part as a PNG."""
    return shown(pictures.png(mean_image(opened(here, source).split(part))))


@router.get("/resized", response_class=Response, responses={200: {"content": {"image/png": {}}}})
def resized(
    here: Here,
    source: Source,
    part: Part = "train",
    index: Index = 0,
    mode: ResizeMode = "crop",
    size: Annotated[int, Query(ge=1, le=512)] = 128,
    fraction: Annotated[float, Query(gt=0.05, le=1)] = 1.0,
) -> Response:
    """Answer one image as a network with a square input of that size would see it."""
    image = opened(here, source).image(part, index)
    half = (0.5,) * image.shape[2]
    shape = data.Preprocess(size, size, image.shape[2], resize=mode, crop_fraction=fraction, mean=half, std=half)
    return shown(pictures.png(data.resize(image, shape)))


@router.get("/check")
def check(here: Here, source: Source) -> Json:
    """Begin to look for broken files, duplicates, leaks and doubtful labels, or tell how far that is and what it found."""
    found = opened(here, source)
    work = here.galleries.check(found)
    told = work.told()
    if work.state == "ready":
        health = work.found.to_dict()
        findings = health.pop("findings") or []
        groups = []
        for kind, means in KINDS.items():
            mine = [item for item in findings if item["kind"] == kind]
            groups.append({"kind": kind, "means": means, "count": len(mine), "found": mine[:MOST_SHOWN]})
        health["duplicates"], health["near"] = health["duplicates"][:MOST_SHOWN], (health["near"] or [])[:MOST_SHOWN]
        health["problems"] = health["problems"][:500]
        told |= {"health": health, "groups": [group for group in groups if group["count"]]}
    return Json(told)


@router.get("/found", response_class=Response, responses={200: {"content": {"image/png": {}}}})
def found_picture(here: Here, source: Source, name: Annotated[str, Query(max_length=4096)], side: Side = pictures.SIDE_PX) -> Response:
    """Answer an image that the check found, by its name, as a PNG."""
    work = here.galleries.check(opened(here, source))
    split = work.found.pictures if work.state == "ready" else None
    rows = {split.name(index): index for index in range(len(split))} if split is not None else {}
    if split is None or name not in rows:
        raise NotFound(f"the check found no image {name!r}")
    return shown(pictures.png(split.image(rows[name]), side))


@router.post("/augment")
def augment(here: Here, asked: Augmented) -> Json:
    """Show training images as the network will see them in each epoch, beside the unchanged ones."""
    here.roots.check(asked.source)
    told = here.looker.ask(
        "augment", source={"data": asked.source}, settings=asked.augment, rows=asked.rows, epochs=asked.epochs, seed=asked.seed
    )
    return Json(told)


def shown(content: bytes) -> Response:
    """Answer a picture, which a browser may keep for a while: images are never changed by the studio."""
    return Response(content, media_type="image/png", headers={"cache-control": "private, max-age=600"})
