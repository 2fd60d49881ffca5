"""Pages from templates: one frame, everything escaped, numbers as in the report."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse

from convsmith import runs
from convsmith.jobs.text import printable
from convsmith.report import units

REST = (("/sweeps", "Sweeps"), ("/jobs", "Jobs"), ("/machine", "Machine"), ("/api", "API"))
MENU = (("/", "Runs"), ("/images", "Images"), ("/networks", "Networks"), ("/new", "New"), ("/compare", "Compare"), *REST)


@cache
def templates() -> Environment:
    """Return the studio's templates."""
    made = Environment(
        loader=PackageLoader("convsmith.studio"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters |= {
        "percent": units.percent,
        "count": units.count,
        "duration": units.duration,
        "moment": moment,
        "size": units.size,
        "printable": printable,
        "address": lambda text: quote(str(text), safe=""),
        "island": island,
    }
    made.globals["menu"] = MENU
    return made


def moment(text: str) -> str:
    """Return a stored time as day and minute of this machine's clock, "" for none."""
    try:
        return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M")
    except (TypeError, ValueError):
        return ""


def island(value: Any) -> Markup:
    """Return JSON that may stand inside a script element: no character of it can end that."""
    text = runs.to_json(value)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def page(request: Request, name: str, status: int = 200, /, **values: Any) -> HTMLResponse:
    """Return a page. Every template knows the session's proof, the place in the menu and where the server stands."""
    session = getattr(request.state, "session", None)
    known = {"proof": session.proof if session else "", "path": request.url.path, "signed_in": session is not None}
    text = templates().get_template(name).render(**known, **values)
    return HTMLResponse(text.encode("utf-8", "replace"), status)
