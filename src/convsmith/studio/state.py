"""What every request works with: one object per application, and runs found by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Request
from starlette.responses import Response

from convsmith import runs
from convsmith.queue import Queue
from convsmith.studio.access import Access
from convsmith.studio.galleries import Galleries
from convsmith.studio.listing import Listing
from convsmith.studio.looking import Looker
from convsmith.studio.missing import NotFound
from convsmith.studio.roots import Roots
from convsmith.studio.settings import Settings
from convsmith.studio.unpacking import Uploads


class Json(Response):
    """Strict JSON of whatever `runs.plain` takes: no NaN, and names that are no valid text as escapes."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return runs.to_json(content).encode()


@dataclass
class Studio:
    """The parts of one application. ``closing`` ends the streams when the server is asked to stop."""

    root: Path
    settings: Settings
    entry: Access
    roots: Roots
    listing: Listing
    queue: Queue
    uploads: Uploads
    galleries: Galleries = field(default_factory=Galleries)
    looker: Looker = field(default_factory=Looker)
    closing: bool = field(default=False)

    def run(self, name: str) -> runs.Run:
        """Return a run of the root by its folder's name.

        Raises: NotFound when there is none, which a name that leads elsewhere is too.
        """
        folder = self.root / name
        single = bool(name) and name not in (".", "..") and not any(mark in name for mark in "/\\\0")
        if not single or not self.roots.contains(folder) or not (folder / "run.json").is_file():
            raise NotFound(f"there is no run {name!r}; it may have been removed")
        return runs.open(folder)


def of(request: Request) -> Studio:
    """Return the studio that answers a request."""
    found: Studio = request.app.state.studio
    return found


Here = Annotated[Studio, Depends(of)]


def described(run: runs.Run) -> Mapping[str, Any]:
    """Return a run as JSON tells it."""
    return dict(run.described) | {"name": run.name, "status": run.status, "summary": run.summary, "folder": str(run.folder)}
