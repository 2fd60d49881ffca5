"""A server of a small network in a thread, and the plainest client there is."""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from convsmith.serving import Batching, Limits, Server, Service


@contextmanager
def running(path: Path, workers: int = 1, limits: Limits | None = None, batching: Batching | None = None) -> Iterator[Server]:
    """Serve a file as ``net`` until the block ends; an error of the server is raised here."""
    server = Server(Service(path, "net", workers=workers, limits=limits or Limits(), batching=batching or Batching()))
    ready, problems = threading.Event(), list[BaseException]()

    def work() -> None:
        try:
            asyncio.run(server.run(ready.set))
        except BaseException as problem:
            problems.append(problem)
            ready.set()

    thread = threading.Thread(target=work)
    thread.start()
    assert ready.wait(60)
    try:
        if not problems:
            yield server
    finally:
        server.stop()
        thread.join(30)
    if problems:
        raise problems[0]
    assert not thread.is_alive()


def ask(
    server: Server, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> tuple[int, Any, dict[str, str]]:
    """Return status, body (JSON where it is) and headers of one request over a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request(method, path, body or None, headers or {})
    answer = connection.getresponse()
    raw = answer.read()
    connection.close()
    found = json.loads(raw) if answer.getheader("Content-Type") == "application/json" and raw else raw
    return answer.status, found, dict(answer.getheaders())


def raw(server: Server, content: bytes, seconds: float = 10.0, end: bool = True) -> bytes:
    """Send bytes and return everything that comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=seconds) as client:
        found = b""
        try:
            client.sendall(content)
            if end:
                client.shutdown(socket.SHUT_WR)
            while part := client.recv(65536):
                found += part
        except ConnectionError:
            pass
    return found


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def pids(server: Server) -> list[int]:
    assert server.pool is not None
    return [worker.process.pid for worker in server.pool.workers if worker.ready]


def wait_for(condition: Any, seconds: float = 30.0) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to hold in time"
        time.sleep(0.01)


@contextmanager
def frozen(server: Server) -> Iterator[list[int]]:
    """Stop all workers with SIGSTOP for the block, those that are left go on after it."""
    stopped = pids(server)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield stopped
    finally:
        for pid in stopped:
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                continue
