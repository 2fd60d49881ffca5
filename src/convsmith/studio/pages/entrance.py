"""The door: a token or a password in, a cookie out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import RedirectResponse, Response

from convsmith.studio.access import LIFE_S
from convsmith.studio.rendering import page
from convsmith.studio.state import Here, Studio

router = APIRouter()


@router.get("/login")
def ask(here: Here, request: Request, token: Annotated[str, Query(max_length=200)] = "", next: str = "/") -> Response:
    """Let in who brings the token in the address, as the terminal prints it; ask everybody else."""
    if token and here.entry.admits(token):
        return _in(here, next)
    return page(
        request, "login.html", 401 if token else 200, next=next, wrong=bool(token), has_password=here.settings.password_file is not None
    )


@router.post("/login")
def enter(here: Here, request: Request, word: Annotated[str, Form(max_length=1024)], next: Annotated[str, Form()] = "/") -> Response:
    """Let in who gives the token or the password."""
    if here.entry.admits(word):
        return _in(here, next)
    return page(request, "login.html", 401, next=next, wrong=True, has_password=here.settings.password_file is not None)


@router.post("/logout")
def leave(here: Here) -> Response:
    """Forget the cookie."""
    response = RedirectResponse("/login", 303)
    response.delete_cookie(here.entry.cookie)
    return response


def _in(here: Studio, place: str) -> Response:
    # only a path of this studio: "//host" and "/\\host" lead elsewhere, and no header may be split
    safe = place.startswith("/") and not place.startswith(("//", "/\\")) and place.isprintable()
    response = RedirectResponse(place if safe else "/", 303)
    response.set_cookie(
        here.entry.cookie,
        here.entry.issue(),
        max_age=LIFE_S,
        httponly=True,
        samesite="lax",
        secure=here.settings.certificate is not None,
    )
    return response
