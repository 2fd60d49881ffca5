"""Asking a trained network: what is on these images, why, and what it said of the test images."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Form, Query, Response, UploadFile
from numpy.typing import NDArray

from convsmith import runs
from convsmith.analysis.calibration import log_probabilities
from convsmith.errors import DataError, UsageError
from convsmith.jobs.trained import kept
from convsmith.studio import pictures
from convsmith.studio.galleries import Gallery
from convsmith.studio.missing import NotFound
from convsmith.studio.state import Here, Json, Studio

router = APIRouter(tags=["answers"])

MOST_IMAGES = 200
PAGE = 48


@router.post("/runs/{name}/classify")
def classify(
    here: Here,
    name: str,
    images: list[UploadFile],
    top: Annotated[int, Query(ge=1, le=1000)] = 5,
    checkpoint: Annotated[str, Query(max_length=40, description="Weights to answer with in place of the best ones")] = "",
) -> Json:
    """Name what is on up to 200 images, which are sent with the request; one that cannot be read says why."""
    if len(images) > MOST_IMAGES:
        raise UsageError(f"{len(images)} images came; at most {MOST_IMAGES} at once. `predict` takes a whole folder on the server")
    sent = [(image.filename or f"image {place}", image.file.read()) for place, image in enumerate(images, 1)]
    run = trained(here, name, checkpoint)
    return Json(here.looker.ask("classify", folder=str(run.folder), images=sent, top=top, checkpoint=checkpoint))


@router.get("/runs/{name}/checkpoints")
def list_checkpoints(here: Here, name: str) -> Json:
    """List the checkpoints of a run whose weights can be asked, with the epoch they are of."""
    return Json({"checkpoints": [{"name": key, "epoch": epoch} for key, epoch in kept(here.run(name)).items()]})


@router.post("/runs/{name}/explain")
def explain(
    here: Here,
    name: str,
    image: UploadFile,
    target: Annotated[str, Form(max_length=500)] = "",
    layer: Annotated[str, Form(max_length=500)] = "",
    checkpoint: Annotated[str, Form(max_length=40)] = "",
) -> Json:
    """Tell what an image does in the network: Grad-CAM for a class, activations of every layer, filters, histograms of the weights."""
    sent = {"name": image.filename or "image", "content": image.file.read()}
    run = trained(here, name, checkpoint)
    return Json(here.looker.ask("explain", folder=str(run.folder), target=target, layer=layer, checkpoint=checkpoint, **sent))


@router.get("/runs/{name}/top")
def top(here: Here, name: str, per: Annotated[int, Query(ge=1, le=50)] = 9) -> Json:
    """List the test images of the highest score for each class."""
    run = here.run(name)
    names, labels, scores = tested(run)
    found = []
    for index, title in enumerate(names):
        order = np.argsort(-scores[:, index], kind="stable")[:per]
        images = [{"index": int(row), "score": float(scores[row, index]), "true": names[labels[row]]} for row in order]
        found.append({"class": title, "images": images})
    return Json({"classes": found})


@router.get("/runs/{name}/tested")
def list_tested(
    here: Here,
    name: str,
    true: Annotated[int | None, Query(ge=0)] = None,
    predicted: Annotated[int | None, Query(ge=0)] = None,
    wrong: bool = False,
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
) -> Json:
    """List the test images by true and predicted class or only the wrong ones, the most confident first."""
    run = here.run(name)
    names, labels, scores = tested(run)
    said = scores.argmax(axis=1)
    keep = np.ones(len(labels), bool)
    keep &= (labels == true) if true is not None else True
    keep &= (said == predicted) if predicted is not None else True
    keep &= (said != labels) if wrong else True
    rows = np.flatnonzero(keep)
    rows = rows[np.argsort(-scores[rows].max(axis=1, initial=0), kind="stable")]
    pages = max(1, -(-len(rows) // PAGE))
    page = min(page, pages)
    titles = run.predictions().names
    shown = [
        {
            "index": int(row),
            "name": titles[row],
            "true": names[labels[row]],
            "predicted": names[said[row]],
            "score": float(scores[row].max()),
        }
        for row in rows[(page - 1) * PAGE : page * PAGE]
    ]
    return Json({"total": len(rows), "page": page, "pages": pages, "images": shown})


@router.get("/runs/{name}/tested/{index}", response_class=Response, responses={200: {"content": {"image/png": {}}}})
def tested_picture(here: Here, name: str, index: int, side: Annotated[int, Query(ge=8, le=1024)] = pictures.SIDE_PX) -> Response:
    """Answer a test image of a run as a PNG; 400 when its images are gone, or are still being opened."""
    run = here.run(name)
    gallery = images_of(here, run)
    part = "test" if "test" in gallery.dataset.splits else "val"
    split, titles = gallery.split(part), run.predictions().names
    if not 0 <= index < len(titles):
        raise NotFound(f"{name} was tested on {len(titles):,} images; there is none of number {index}")
    if index >= len(split) or split.name(index) != titles[index]:
        raise DataError(f"the images of {name} changed since it was trained, so test image {index} cannot be shown")
    return Response(pictures.png(split.image(index), side), media_type="image/png", headers={"cache-control": "private, max-age=600"})


@router.get("/runs/{name}/images")
def get_images(here: Here, name: str, again: bool = False) -> Json:
    """Begin to open the images that a run was tested on, or tell how far that is."""
    return Json(images_of(here, here.run(name), again=again).opening.told())


def images_of(here: Studio, run: runs.Run, *, again: bool = False) -> Gallery:
    """Return the images of a run, which may still be being opened.

    Raises: Outside when they are in no allowed folder; NotFound when the run does not tell them.
    """
    if not run.has("dataset.json"):
        raise NotFound(f"{run.name} does not say which images it was trained on")
    source = dict(run.read_json("dataset.json").get("open") or {})
    here.roots.check(source)
    return here.galleries.open(source, again=again)


def trained(here: Studio, name: str, checkpoint: str = "") -> runs.Run:
    """Return a run that has a network, or a checkpoint of that name.

    Raises: UsageError when it has none yet; NotFound for a checkpoint that is not there.
    """
    run = here.run(name)
    if checkpoint and checkpoint not in kept(run):
        raise NotFound(f"{name} has no checkpoint {checkpoint!r}; it has {', '.join(kept(run)) or 'none'}")
    if not checkpoint and not run.has("weights.safetensors"):
        raise UsageError(f"{name} has no trained network: it is {run.status}")
    return run


def tested(run: runs.Run) -> tuple[list[str], NDArray[np.int64], NDArray[np.float64]]:
    """Return the classes, the true class of each test image, and the scores ``(n, classes)``."""
    predictions = run.predictions()
    told: Any = run.read_json("preprocess.json") if run.has("preprocess.json") else {}
    count = predictions.logits.shape[1]
    names = [str(name) for name in told.get("classes", [])]
    names = names if len(names) == count else [str(index) for index in range(count)]
    return names, predictions.labels, np.exp(log_probabilities(predictions.logits))
