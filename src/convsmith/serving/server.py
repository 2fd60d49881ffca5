"""The server: listens, knows the paths, and hands work to the pool of workers."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from convsmith import __version__
from convsmith.errors import ResourceError
from convsmith.serving import kserve
from convsmith.serving.connection import Connection
from convsmith.serving.frames import IMAGE, INFER, Reply, Task
from convsmith.serving.http import LARGEST_DIGITS, Head, Refused, as_json, error
from convsmith.serving.limits import Batching, Limits
from convsmith.serving.metrics import Metrics
from convsmith.serving.pool import Pool
from convsmith.serving.setting import Setting

SWEEP_S: Final = 0.25
JSON_BYTES: Final = b"inference-header-content-length"
PROMETHEUS: Final = "text/plain; version=0.0.4"
NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,100}")


@dataclass(frozen=True)
class Service:
    """What is served: an exported file under a name, by how many workers of how many threads each, where."""

    path: Path
    name: str
    runtime: str | None = None
    workers: int = 1
    threads: int = 1
    host: str = "127.0.0.1"
    port: int = 0
    limits: Limits = field(default_factory=Limits)
    batching: Batching = field(default_factory=Batching)


class Server:
    """One model behind HTTP. ``run`` returns when ``stop`` was called and every accepted request is answered."""

    def __init__(self, service: Service) -> None:
        self.service, self.limits = service, service.limits
        self.metrics = Metrics()
        self.connections: set[Connection] = set()
        self.stopping = False
        self.port = 0
        self.pool: Pool | None = None
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self, ready: Callable[[], Any] | None = None) -> None:
        """Serve. ``ready`` is called when the first worker is up and the port is open.

        Raises: ResourceError when the port is taken, or no worker comes up.
        """
        self._stop, self._loop = asyncio.Event(), asyncio.get_running_loop()
        s = self.service
        setting = Setting(-1, str(s.path.absolute()), s.name, s.runtime, s.threads, s.batching.most, s.limits)
        self.pool = Pool(setting, s.workers, s.batching, self.metrics)
        try:
            listener = await self._loop.create_server(lambda: Connection(self), s.host, s.port, backlog=1024)
        except OSError as problem:
            raise ResourceError(f"cannot listen on {s.host}:{s.port}: {problem.strerror or problem}; choose another --port") from None
        self.port = listener.sockets[0].getsockname()[1]
        sweeper = self._loop.create_task(self._sweep())
        try:
            await self.pool.start()
            if ready:
                ready()
            await self._stop.wait()
            self.stopping = True
            listener.close()
            await self._drain()
        finally:
            sweeper.cancel()
            listener.close()
            await self.pool.stop()
            for connection in list(self.connections):
                connection.transport.abort()

    def stop(self) -> None:
        """Ask it to end, from any thread."""
        if self._loop and self._stop:
            with contextlib.suppress(RuntimeError):  # it has ended already
                self._loop.call_soon_threadsafe(self._stop.set)

    async def _drain(self) -> None:
        deadline = time.monotonic() + self.limits.grace_s
        while time.monotonic() < deadline and (self._pool.busy or any(c.transport.get_write_buffer_size() for c in self.connections)):
            await asyncio.sleep(0.02)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            now = time.monotonic()
            self._pool.sweep(now)
            for connection in [c for c in self.connections if c.deadline < now]:
                connection.expire()

    @property
    def _pool(self) -> Pool:
        assert self.pool is not None
        return self.pool

    def handle(self, connection: Connection, head: Head, body: bytes) -> None:
        """Answer a request, at once or when a worker has."""
        method = "GET" if head.method == "HEAD" else head.method
        model = f"/v2/models/{self.service.name}"
        path = head.path.replace(f"{model}/versions/1", model, 1) if head.path.startswith(f"{model}/versions/1") else head.path
        if path in ("/predict", f"{model}/infer"):
            if method != "POST":
                connection.answer(405, error(f"{path} takes POST"), more="Allow: POST\r\n")
                return
            self._submit(connection, head, body, IMAGE if path == "/predict" else INFER)
            return
        status, found, kind = self._page(path, model)
        if status != 404 and method != "GET":
            connection.answer(405, error(f"{path} takes GET"), more="Allow: GET, HEAD\r\n")
            return
        connection.answer(status, found if isinstance(found, bytes) else as_json(found), kind)

    def _page(self, path: str, model: str) -> tuple[int, Any, str]:
        pool, kind = self._pool, "application/json"
        if path in ("/health", "/v2/health/live"):
            return 200, {"live": True}, kind
        if path in ("/v2/health/ready", f"{model}/ready"):
            return (200 if pool.ready and not self.stopping else 503), {"ready": bool(pool.ready) and not self.stopping}, kind
        if path == "/metrics":
            return 200, self.metrics.text(self._gauges()).encode(), PROMETHEUS
        if path == "/v2":
            return 200, {"name": "convsmith", "version": __version__, "extensions": ["binary_tensor_data"]}, kind
        if path == model and pool.about:
            return 200, kserve.describe(self.service.name, pool.about["channels"], pool.about["classes"]), kind
        if path == "/":
            return 200, {"model": self.service.name, "post an image file to": "/predict", "KServe v2": model, "metrics": "/metrics"}, kind
        return 404, {"error": f"there is nothing at this path; the model is {self.service.name!r}, see /"}, kind

    def _gauges(self) -> dict[str, float]:
        pool = self._pool
        return {"connections": len(self.connections), "requests_waiting": len(pool.waiting), "workers_ready": pool.ready}

    def _submit(self, connection: Connection, head: Head, body: bytes, kind: int) -> None:
        def deliver(reply: Reply) -> None:
            more = ""
            if reply.status == 503:
                more = "Retry-After: 1\r\n"
            elif reply.json_bytes:
                more = f"Inference-Header-Content-Length: {reply.json_bytes}\r\n"
            connection.answer(reply.status, reply.body, "application/octet-stream" if reply.json_bytes else "application/json", more)

        try:
            self._pool.submit(Task(kind, body, _json_bytes(head, len(body)) if kind == INFER else 0), deliver)
        except Refused as refused:
            connection.answer(refused.status, error(refused.text))


def _json_bytes(head: Head, size: int) -> int:
    """Return how many bytes of a body are JSON where binary tensors follow; 0 where all are."""
    text = head.fields.get(JSON_BYTES)
    if text is None:
        return 0
    if not text.isdigit() or len(text) > LARGEST_DIGITS or not 0 < int(text) <= size:
        raise Refused(400, f"Inference-Header-Content-Length is not a number of bytes from 1 to {size}")
    return int(text)
