"""Images sent by the browser: a folder file by file, or a zip archive."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Form, Request, UploadFile
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from convsmith.errors import ResourceError, UsageError
from convsmith.runs import files
from convsmith.studio.state import Here, Json

router = APIRouter(prefix="/uploads", tags=["uploads"])

AT_ONCE = 500
#: What stays free of the disk: a run that cannot write its checkpoint loses more than an upload.
SPARED_BYTES = 256 << 20


class Named(BaseModel):
    """What an upload shall be called."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(min_length=1, max_length=200)


@router.post("")
def begin(here: Here) -> Json:
    """Begin an upload; it is forgotten after a day when it is not finished."""
    _spare(here.root)
    return Json({"upload": here.uploads.begin()})


@router.post("/{id}/files")
def add(here: Here, id: str, sent: list[UploadFile], paths: Annotated[list[str], Form()]) -> Json:
    """Add up to 500 files, each with its path relative to the folder; hidden files are passed over."""
    if len(sent) != len(paths) or len(sent) > AT_ONCE:
        raise UsageError(f"{len(sent)} files and {len(paths)} paths came; they must be as many, and at most {AT_ONCE} at once")
    _spare(here.root)
    kept = sum(here.uploads.add(id, path, file.file) for path, file in zip(paths, sent, strict=True))
    return Json({"kept": kept, "passed_over": len(sent) - kept})


@router.put("/{id}/archive")
async def archive(here: Here, id: str, request: Request) -> Json:
    """Add all files of a zip archive, which is the whole body."""
    here.uploads.place(id)
    with files.writing(here.root), tempfile.NamedTemporaryFile(dir=here.uploads.folder, prefix=".arriving-", suffix=".zip") as file:
        async for part in request.stream():
            await run_in_threadpool(file.write, part)
        file.flush()
        await run_in_threadpool(_spare, here.root)
        count = await run_in_threadpool(here.uploads.unpack, id, Path(file.name))
    return Json({"kept": count})


@router.post("/{id}/finish")
def finish(here: Here, id: str, asked: Named) -> Json:
    """Give an upload its name; answers the source to look at and to train on."""
    return Json({"source": str(here.uploads.finish(id, asked.name))})


@router.delete("/{id}")
def give_up(here: Here, id: str) -> Json:
    """Forget an upload."""
    here.uploads.give_up(id)
    return Json({"forgotten": id})


def _spare(root: Path) -> None:
    free = shutil.disk_usage(root).free
    if free < SPARED_BYTES:
        raise ResourceError(f"only {free / 1e6:,.0f} MB of the disk of {root} are free; remove some runs first")
