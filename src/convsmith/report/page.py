"""The page as one file: style, charts and pictures inside, nothing fetched."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from convsmith.report.sections import OF_A_PAPER, OF_A_SWEEP, SECTIONS, headline
from convsmith.report.source import open_source, quietly
from convsmith.runs.files import write_bytes

NAME = "report.html"


def write(run_folder: str | Path, *, thumbnails: Callable[[int], bytes] | None = None) -> Path:
    """Write ``report.html`` into a run folder and return its path; an earlier page is replaced.

    ``thumbnails``: the PNG of a test image by its index, for runs that have no ``mistakes`` folder.
    Raises: UsageError when the folder is no run; ResourceError when it cannot be written.
    """
    path = Path(run_folder) / NAME
    write_bytes(path, render(run_folder, thumbnails=thumbnails).encode("utf-8"))
    return path


def render(run_folder: str | Path, *, thumbnails: Callable[[int], bytes] | None = None) -> str:
    """Return the page of a run. Whatever the run did not do is said in its place; so is a file that cannot be read."""
    source = open_source(run_folder, thumbnails)
    parts = []
    for section in {"reproduce": OF_A_PAPER, "sweep": OF_A_SWEEP}.get(source.run.verb, SECTIONS):
        content, fault = quietly(section.build, source)
        parts.append({"key": section.key, "title": section.title, "absent": section.absent, "content": content, "fault": fault})
    script = _text("copy.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return fill("page.html", head=headline.build(source), sections=parts, script=Markup(script), script_hash=digest)


def fill(template: str, **values: Any) -> str:
    """Return a page of this room; its style, and the moment at which it is made, are known to every template."""
    when = datetime.now().strftime("%d %B %Y, %H:%M")
    return templates().get_template(template).render(style=Markup(style()), when=when, **values)


@cache
def templates() -> Environment:
    """Return the templates of this room."""
    return Environment(
        loader=PackageLoader("convsmith.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def style() -> str:
    """Return the style of every page."""
    return _text("style.css")


def _text(name: str) -> str:
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8").strip()
