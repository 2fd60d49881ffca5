"""What every request passes before any page sees it: host, rate, size, visitor, proof of a change; and the headers of every answer."""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from convsmith.studio import access
from convsmith.studio.access import Access

OPEN = ("/login", "/static/")
SAFE = ("GET", "HEAD", "OPTIONS")
JSON_BYTES = 2 << 20
IMAGE_BYTES = 64 << 20
#: Addresses below a run that images are sent to.
SENT_TO = ("/classify", "/explain")
LOGINS_A_MINUTE = 10
MOST_CLIENTS = 4096

HEADERS = {
    # style elements and attributes are what the plotting library draws with; nothing else of a page is inline
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; form-action 'self'; frame-src 'self'; frame-ancestors 'self'; base-uri 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "SAMEORIGIN",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


@dataclass
class Rate:
    """A bucket for each client that fills by ``each_s`` drops a second up to ``most``; a request takes one."""

    each_s: float
    most: float
    clock: Callable[[], float] = time.monotonic
    _buckets: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)

    def wait_s(self, client: str) -> float:
        """Take a drop and return 0, or return how long to wait for one; a clock that goes back counts as standing still."""
        now = self.clock()
        level, then = self._buckets.pop(client, (self.most, now))
        level = min(self.most, level + max(0.0, now - then) * self.each_s)
        taken = level >= 1
        self._buckets[client] = (level - 1 if taken else level, now)
        while len(self._buckets) > MOST_CLIENTS:
            self._buckets.popitem(last=False)
        return 0.0 if taken else (1 - level) / self.each_s


class TooLarge(HTTPException):
    """A body above its limit, noticed while it is read; of the kind that whoever reads a body passes on."""


class Refused(Exception):
    """A request that is answered here."""

    def __init__(self, status: int, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status, self.headers = status, headers


class Guard:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp, *, entry: Access, hosts: frozenset[str], rate: Rate, upload_bytes: int) -> None:
        self.app, self.entry, self.hosts, self.rate, self.upload_bytes = app, entry, hosts, rate, upload_bytes
        self.logins = Rate(LOGINS_A_MINUTE / 60, LOGINS_A_MINUTE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = False

        async def answer(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                _harden(MutableHeaders(scope=message))
            await send(message)

        try:
            headers = Headers(scope=scope)
            self._admit(scope, headers)
            await self.app(scope, self._limited(scope, headers, receive), answer)
        except (Refused, TooLarge) as error:
            if begun:
                raise
            refusal = error if isinstance(error, Refused) else Refused(413, str(error.detail))
            await _refuse(refusal, scope, answer)

    def _admit(self, scope: Scope, headers: Headers) -> None:
        path, client = scope["path"], (scope.get("client") or ("", 0))[0]
        host = headers.get("host", "").rpartition(":")[0] if not headers.get("host", "").endswith("]") else headers.get("host", "")
        if (host or headers.get("host", "")).lower() not in self.hosts:
            raise Refused(400, f"this studio does not answer to the host {headers.get('host', '')!r}; start it with --names HOST")
        if not path.startswith("/static/"):
            _slow_down(self.rate, client)
        session = self.entry.session(_cookie(headers, self.entry.cookie), headers.get("authorization"))
        scope.setdefault("state", {})["session"] = session
        if path.startswith(OPEN):
            if path == "/login" and (scope["method"] == "POST" or b"token=" in scope["query_string"]):
                _slow_down(self.logins, client)
            return
        if session is None:
            if scope["method"] in SAFE and not path.startswith("/api/"):
                raise Refused(303, "come in first", location=f"/login?next={quote(_target(scope))}")
            raise Refused(401, "no valid session; open the address that `convsmith studio` prints, or send Authorization: Bearer TOKEN")
        if scope["method"] not in SAFE and not self.entry.proves(session, headers.get(access.HEADER)):
            raise Refused(403, f"a change needs the header {access.HEADER}, which every page of this session carries; load the page again")

    def _limited(self, scope: Scope, headers: Headers, receive: Receive) -> Receive:
        path = scope["path"]
        limit = self.upload_bytes if path.startswith("/api/uploads") else IMAGE_BYTES if path.endswith(SENT_TO) else JSON_BYTES
        told = f"at most {limit / 1e6:,.0f} MB may be sent here"
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > limit:
            raise Refused(413, f"{told}, this is {int(length) / 1e6:,.0f} MB")
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > limit:
                raise TooLarge(413, told)
            return message

        return counted


def _slow_down(rate: Rate, client: str) -> None:
    wait_s = rate.wait_s(client)
    if wait_s:
        raise Refused(429, f"too many requests; try again in {wait_s:.0f} s", **{"retry-after": str(int(wait_s) + 1)})


def _cookie(headers: Headers, name: str) -> str | None:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(name)
    except CookieError:
        return None
    return found.value if found else None


def _target(scope: Scope) -> str:
    query = scope["query_string"].decode("latin-1")
    return str(scope["path"]) + (f"?{query}" if query else "")


def _harden(headers: MutableHeaders) -> None:
    for name, value in HEADERS.items():
        headers.setdefault(name, value)


async def _refuse(refusal: Refused, scope: Scope, send: Send) -> None:
    body = json.dumps({"error": {"kind": "Refused", "message": str(refusal)}}).encode()
    headers: Mapping[str, Any] = {"content-type": "application/json", "content-length": str(len(body)), **refusal.headers}
    raw = [(key.encode(), value.encode("latin-1", "replace")) for key, value in headers.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": raw})
    await send({"type": "http.response.body", "body": body if scope["method"] != "HEAD" else b""})
