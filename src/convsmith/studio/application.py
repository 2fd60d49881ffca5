"""The application: its layers, its addresses, and what an error looks like from outside."""

from __future__ import annotations

import socket
from pathlib import Path

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from convsmith import __version__
from convsmith.errors import ConvsmithError, ResourceError
from convsmith.queue import Queue
from convsmith.runs.notes import Outdated
from convsmith.studio import access, api, assets, pages
from convsmith.studio.guard import Guard, Rate
from convsmith.studio.listing import Listing
from convsmith.studio.missing import NotFound
from convsmith.studio.rendering import page
from convsmith.studio.roots import Outside, Roots
from convsmith.studio.settings import Settings
from convsmith.studio.state import Json, Studio
from convsmith.studio.unpacking import Uploads

#: How an error is answered; whatever else Convsmith raises on purpose is 400.
STATUS: tuple[tuple[type[ConvsmithError], int], ...] = ((NotFound, 404), (Outside, 403), (Outdated, 409), (ResourceError, 507))

ABOUT = """\
The studio as JSON. Send the token that `convsmith studio` prints as `Authorization: Bearer TOKEN`.

Every answer is one JSON object; an error is `{"error": {"kind", "message"}}` with 400 (settings or images that cannot be), 401, 403,
404, 409 (changed elsewhere meanwhile), 413, 422 (not of the documented form), 429 or 507 (the disk is full)."""


def app(root: str | Path, settings: Settings | None = None) -> FastAPI:
    """Return the studio over a folder of runs, which is made when it is not there.

    Raises: UsageError and ResourceError for a password file or folder that cannot be used.
    """
    settings = settings or Settings()
    root = Path(root).expanduser().absolute()
    entry = access.open_access(root, settings.password_file)
    roots = Roots([root, Path.cwd(), *settings.allow])
    studio = Studio(root, settings, entry, roots, Listing(root), Queue(root), Uploads(root, settings.upload_mb * 1_000_000))
    made = FastAPI(
        title="Convsmith studio", version=__version__, description=ABOUT, docs_url=None, redoc_url=None, openapi_url="/api/openapi.json"
    )
    made.state.studio = studio
    made.include_router(assets.router)
    made.include_router(pages.router)
    made.include_router(api.router)
    made.add_exception_handler(ConvsmithError, _told)
    made.add_exception_handler(RequestValidationError, _malformed)
    made.add_exception_handler(HTTPException, _refused)
    made.add_exception_handler(Exception, _unexpected)
    made.add_middleware(
        Guard,
        entry=entry,
        hosts=_hosts(settings),
        rate=Rate(settings.requests, 2 * settings.requests),
        upload_bytes=settings.upload_mb * 1_000_000,
    )
    return made


def _hosts(settings: Settings) -> frozenset[str]:
    """Return the names a browser may know the studio by; any other is a page that pretends to be it."""
    names = {"localhost", "127.0.0.1", "[::1]", settings.host.lower(), *(name.lower() for name in settings.names)}
    if not settings.is_local:
        names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
    return frozenset(names)


def _told(request: Request, error: Exception) -> Response:
    status = next((code for kind, code in STATUS if isinstance(error, kind)), 400)
    more = {"found": error.found} if isinstance(error, Outdated) else {}
    return _answer(request, status, type(error).__name__, str(error), **more)


def _malformed(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    said = "; ".join(f"{'.'.join(map(str, item['loc'][1:]))}: {item['msg']}" for item in error.errors())
    return _answer(request, 422, "Malformed", said)


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"there is no page {request.url.path}" if error.status_code == 404 else str(error.detail)
    response = _answer(request, error.status_code, "Refused", message)
    response.headers.update(error.headers or {})
    return response


def _unexpected(request: Request, error: Exception) -> Response:
    return _answer(request, 500, "Unexpected", f"{type(error).__name__}: {error}; this is a fault of Convsmith")


def _answer(request: Request, status: int, kind: str, message: str, **more: object) -> Response:
    if request.url.path.startswith("/api/"):
        return Json({"error": {"kind": kind, "message": message, **more}}, status)
    return page(request, "error.html", status, status=status, message=message)
