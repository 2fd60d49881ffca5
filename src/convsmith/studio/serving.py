"""The server: a socket, TLS, and an end that does not wait for those who watch."""

from __future__ import annotations

import socket
from pathlib import Path
from threading import Thread
from types import FrameType
from urllib.parse import quote

import uvicorn

from convsmith import runs
from convsmith.errors import ResourceError, UsageError
from convsmith.studio.api.verbs import offered
from convsmith.studio.application import app
from convsmith.studio.settings import Settings
from convsmith.studio.state import Studio


class Server(uvicorn.Server):
    """Ends the live streams first when it is asked to stop."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.config.app.state.studio.closing = True  # type: ignore[union-attr]
        super().handle_exit(sig, frame)


def listen(settings: Settings) -> socket.socket:
    """Return a socket that listens.

    Raises: ResourceError when the port is taken or not allowed; UsageError for an address that is not this machine's.
    """
    host = settings.host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, settings.port))
        found.listen(1024)  # the printed address answers at once, if only after the server has begun
    except socket.gaierror as error:
        found.close()
        raise UsageError(f"--host {settings.host} is no address: {error.strerror}") from None
    except OSError as error:
        found.close()
        raise ResourceError(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror}; give another --port, or 0 for a free one"
        ) from None
    return found


def serve(root: Path, settings: Settings) -> None:
    """Serve until Ctrl-C, and print the address to open first."""
    made = app(root, settings)
    Thread(target=warm, args=(made.state.studio,), daemon=True).start()
    with listen(settings) as listening:
        scheme = "https" if settings.certificate else "http"
        config = uvicorn.Config(
            made,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=3,
            ssl_certfile=settings.certificate,
            ssl_keyfile=settings.key,
            h11_max_incomplete_event_size=64 << 10,
        )
        token = made.state.studio.entry.token
        print(f"studio of {root.absolute()}")
        print(f"open {scheme}://{_written(settings.host)}:{listening.getsockname()[1]}/login?token={token}{first(root, settings)}")
        print("Ctrl-C ends it; jobs go on without it", flush=True)
        Server(config).run(sockets=[listening])


def warm(studio: Studio) -> None:
    """Read the index and import the verbs before the first page asks for them."""
    studio.listing.rows()
    for verb in offered():
        verb.module  # noqa: B018


def first(root: Path, settings: Settings) -> str:
    """Return what leads the address to the run that was asked for, "" when none was.

    Raises: UsageError when there is no such run.
    """
    if not settings.run:
        return ""
    name = runs.find(settings.run, root).resolve().name
    return "&next=" + quote(f"/runs/{quote(name, safe='')}", safe="")


def _written(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
