"""HTTP/1.1 as far as a classifier needs it: heads read strictly, answers written whole.

A body has a Content-Length; chunked bodies are refused (411), so there is one way only to tell where a request ends.

References: RFC 9112, sections 2 to 6; RFC 9110, section 15.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

END: Final = b"\r\n\r\n"
TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
TARGET: Final = re.compile(rb"/[!-~]*")
REASONS: Final = {status.value: status.phrase for status in HTTPStatus}
JSON: Final = "application/json"
LARGEST_DIGITS: Final = 15


class Refused(Exception):
    """A request that cannot be served: its status and what to say."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


@dataclass(slots=True)
class Head:
    """The head of a request; names of fields are lower case."""

    method: str
    path: str
    fields: dict[bytes, bytes]
    length: int
    keep_alive: bool

    @property
    def expects(self) -> bool:
        """Whether the client waits to be told that its body is welcome."""
        return self.fields.get(b"expect", b"").lower() == b"100-continue"


def read_head(raw: bytes) -> Head:
    """Read the bytes before the empty line; `Refused` for what is no request of HTTP/1.0 or 1.1."""
    first, *rest = raw.split(b"\r\n")
    parts = first.split(b" ")
    if len(parts) != 3 or not TOKEN.fullmatch(parts[0]) or not TARGET.fullmatch(parts[1]):
        raise Refused(400, "the request line is not METHOD /PATH HTTP/1.1")
    if parts[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise Refused(505 if parts[2].startswith(b"HTTP/") else 400, "the protocol is not HTTP/1.1")
    fields = read_fields(rest)
    modern = parts[2] == b"HTTP/1.1"
    if modern and b"host" not in fields:
        raise Refused(400, "a request of HTTP/1.1 has a Host")
    connection = fields.get(b"connection", b"").lower()
    keep = connection != b"close" if modern else connection == b"keep-alive"
    method = parts[0].decode()
    return Head(method, parts[1].partition(b"?")[0].decode(), fields, body_length(method, fields), keep)


def read_fields(lines: list[bytes]) -> dict[bytes, bytes]:
    """Return the fields of a head; `Refused` for a malformed one, or two lengths."""
    fields: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not TOKEN.fullmatch(name) or CONTROL.search(value):
            raise Refused(400, "a header field is malformed")
        name, value = name.lower(), value.strip(b" \t")
        if name in fields and (name in (b"content-length", b"host") or fields[name] != value):
            if name in (b"content-length", b"transfer-encoding", b"host"):
                raise Refused(400, f"there are two fields {name.decode()}")
            value = fields[name] + b", " + value
        fields[name] = value
    return fields


def body_length(method: str, fields: dict[bytes, bytes]) -> int:
    """Return the length of the body."""
    if b"transfer-encoding" in fields:
        raise Refused(411, "send the body with a Content-Length; chunked bodies are not read")
    text = fields.get(b"content-length")
    if text is None:
        if method in ("POST", "PUT", "PATCH"):
            raise Refused(411, "send a Content-Length")
        return 0
    if not text.isdigit() or len(text) > LARGEST_DIGITS:
        raise Refused(400, "the Content-Length is not a number of bytes")
    return int(text)


def answer(status: int, body: bytes, kind: str = JSON, *, keep: bool = True, more: str = "", whole: bool = True) -> bytes:
    """Return the bytes of an answer; ``more``: further header lines; ``whole`` False leaves the body out, for HEAD."""
    connection = "" if keep else "Connection: close\r\n"
    head = f"HTTP/1.1 {status} {REASONS[status]}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{connection}{more}\r\n"
    return head.encode() + body if whole else head.encode()


def error(text: str) -> bytes:
    """Return the body of an error, as KServe has it."""
    return as_json({"error": text})


def as_json(value: Any) -> bytes:
    """Return compact JSON."""
    return json.dumps(value, separators=(",", ":")).encode()
