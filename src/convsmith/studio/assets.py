"""Style, scripts and the plotting library, all from this machine."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from convsmith.errors import UnsupportedError
from convsmith.report.page import style
from convsmith.studio.missing import NotFound

FOLDER = Path(__file__).parent / "static"
KINDS = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}

router = APIRouter(include_in_schema=False)


@router.get("/static/report.css")
def report_style() -> Response:
    """Answer the style of the report, which the studio shares."""
    return Response(style(), media_type="text/css", headers={"cache-control": "no-cache"})


@router.get("/static/plotly.js")
def plotly(request: Request) -> Response:
    """Answer the browser library inside the installed plotly package; it changes only with that."""
    return FileResponse(plotly_file(), media_type="text/javascript", headers={"cache-control": "private, max-age=86400"})


@router.get("/static/{name}")
def static(name: str) -> Response:
    """Answer a file of the studio itself."""
    path = FOLDER / name
    if path.suffix not in KINDS or path.parent != FOLDER or not path.is_file():
        raise NotFound(f"there is no file {name!r}")
    return FileResponse(path, media_type=KINDS[path.suffix], headers={"cache-control": "no-cache"})


@cache
def plotly_file() -> Path:
    """Return where plotly's library lies, found without loading plotly."""
    import importlib.util

    found = importlib.util.find_spec("plotly")
    if found is None or found.origin is None:
        raise UnsupportedError("plotly is not installed, which holds the library that draws curves: pip install 'convsmith[studio]'")
    return Path(found.origin).parent / "package_data" / "plotly.min.js"
