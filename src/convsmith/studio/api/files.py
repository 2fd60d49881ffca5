"""The files of a run: listed, shown, and taken home one by one or all together."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from fastapi import APIRouter
from starlette.responses import FileResponse, Response, StreamingResponse

from convsmith import report, runs
from convsmith.studio.missing import NotFound
from convsmith.studio.state import Here, Json

router = APIRouter(tags=["files"])

#: What a browser may show in its place; everything else is only saved. None of it can hold a script.
SHOWN = {".png": "image/png", ".jpg": "image/jpeg", ".txt": "text/plain", ".json": "application/json", ".yaml": "text/plain"}
SHOWN |= {".jsonl": "text/plain"}
#: The report has a script of its own and may have come from elsewhere: it is shown without rights, as if from another site.
SANDBOX = (
    "sandbox allow-scripts; default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'unsafe-inline'; "
    "frame-ancestors 'self'"
)


@router.get("/runs/{name}/files")
def list_files(here: Here, name: str) -> Json:
    """List the files of a run with their sizes in bytes."""
    return Json({"files": [{"name": relative, "bytes": path.stat().st_size} for relative, path in _files(here.run(name))]})


@router.get("/runs/{name}/files/{path:path}")
def get_file(here: Here, name: str, path: str) -> Response:
    """Answer one file of a run."""
    found = dict(_files(here.run(name))).get(path)
    if found is None:
        raise NotFound(f"{name} has no file {path!r}")
    kind = SHOWN.get(found.suffix)
    disposition = "inline" if kind else f"attachment; filename*=UTF-8''{quote(found.name, safe='')}"
    headers = {"content-disposition": disposition, "content-security-policy": "sandbox; default-src 'none'"}
    return FileResponse(found, media_type=kind or "application/octet-stream", headers=headers)


@router.get("/runs/{name}/report")
def get_report(here: Here, name: str) -> Response:
    """Answer the report of a run: the page in its folder, or one made now while there is none."""
    run = here.run(name)
    stored = run.folder / report.page.NAME
    if run.status != "running" and stored.is_file() and here.roots.contains(stored):
        return FileResponse(stored, media_type="text/html", headers={"content-security-policy": SANDBOX})
    return Response(report.render(run.folder), media_type="text/html", headers={"content-security-policy": SANDBOX})


@router.get("/runs/{name}/archive")
def get_archive(here: Here, name: str) -> StreamingResponse:
    """Answer the whole run as a zip archive, packed while it is sent."""
    run = here.run(name)
    headers = {"content-disposition": f"attachment; filename*=UTF-8''{quote(run.name, safe='')}.zip"}
    return StreamingResponse(_packed(run.name, _files(run)), media_type="application/zip", headers=headers)


def _files(run: runs.Run) -> list[tuple[str, Path]]:
    """Return the regular files of a run by their place in it; no link that leads out of it counts."""
    root = run.folder.resolve()
    found = []
    for path in sorted(run.folder.rglob("*")):
        relative = path.relative_to(run.folder)
        hidden = any(part.startswith(".") for part in relative.parts)
        if not hidden and path.is_file() and path.resolve().is_relative_to(root):
            found.append((relative.as_posix(), path))
    return found


class _Pipe:
    """A file that zipfile writes to and that forgets what was taken from it."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def write(self, content: bytes) -> int:
        self.parts.append(bytes(content))
        return len(content)

    def flush(self) -> None:
        """Do nothing: what was written is there already."""

    def take(self) -> bytes:
        taken, self.parts = b"".join(self.parts), []
        return taken


def _packed(name: str, files: list[tuple[str, Path]]) -> Iterator[bytes]:
    pipe = _Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED) as archive:  # type: ignore[call-overload]
        for relative, path in files:
            try:
                source = path.open("rb")
            except OSError:
                continue  # removed meanwhile
            with source, archive.open(zipfile.ZipInfo(f"{name}/{relative}"), "w", force_zip64=True) as target:
                while content := source.read(1 << 20):
                    target.write(content)
                    yield pipe.take()
            yield pipe.take()
    yield pipe.take()
