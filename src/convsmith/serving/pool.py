"""The workers: started, fed with batches, watched, replaced when they die. Every accepted job gets exactly one reply."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from convsmith.errors import ResourceError
from convsmith.serving.frames import HEAD, Reply, Task, pack_tasks, read_replies
from convsmith.serving.http import error
from convsmith.serving.limits import Batching, Limits
from convsmith.serving.metrics import Metrics
from convsmith.serving.setting import Setting

ATTEMPTS: Final = 2
FIRST_TRIES: Final = 3
LONGEST_DELAY_S: Final = 5.0
START_S: Final = 120.0


@dataclass(slots=True, eq=False)
class Job:
    """A task on its way. ``deliver`` is called once; ``alone``: a worker died on it, so it goes by itself."""

    task: Task
    deliver: Callable[[Reply], None]
    arrived: float
    attempts: int = 0

    @property
    def alone(self) -> bool:
        return self.attempts > 0


class Worker(asyncio.Protocol):
    """One worker process as the server sees it."""

    def __init__(self, pool: Pool, process: subprocess.Popen[bytes]) -> None:
        self.pool, self.process = pool, process
        self.transport: Any = None
        self.ready = False
        self.jobs: list[Job] = []
        self.buffer = bytearray()
        self.started = time.monotonic()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if len(self.buffer) < HEAD.size:
            return
        size, count = HEAD.unpack_from(self.buffer)
        if len(self.buffer) < HEAD.size + size:
            return
        replies = read_replies(memoryview(bytes(self.buffer))[HEAD.size :], count)
        self.buffer.clear()
        if self.ready:
            jobs, self.jobs = self.jobs, []
            self.pool.finished(jobs, replies)
        else:
            self.pool.began(self, replies[0])

    def connection_lost(self, problem: Exception | None) -> None:
        self.pool.ended(self)

    def send(self, jobs: Sequence[Job]) -> None:
        self.jobs = list(jobs)
        self.transport.writelines(pack_tasks([job.task for job in jobs]))

    def kill(self) -> None:
        """End the process at once; ``connection_lost`` follows."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        if self.transport:
            self.transport.abort()


class Pool:
    """Workers of one model and the queue before them."""

    def __init__(self, setting: Setting, count: int, batching: Batching, metrics: Metrics) -> None:
        self.setting, self.count, self.batching, self.metrics = setting, count, batching, metrics
        self.limits: Limits = setting.limits
        self.workers: list[Worker] = []
        self.waiting: deque[Job] = deque()
        self.waiting_bytes = 0
        self.about: dict[str, Any] = {}
        self.problem = "no worker started in time"
        self.failures = 0
        self.stopping = False
        self.changed = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._starting: set[asyncio.Task[None]] = set()

    @property
    def ready(self) -> int:
        return sum(worker.ready for worker in self.workers)

    @property
    def busy(self) -> bool:
        return bool(self.waiting) or any(worker.jobs for worker in self.workers)

    async def start(self) -> None:
        """Start all workers and wait for the first; `ResourceError` with its reason when none comes up."""
        for _ in range(self.count):
            await self._start(0.0)
        deadline = time.monotonic() + START_S
        while not self.ready:
            if self.failures >= FIRST_TRIES * self.count or time.monotonic() > deadline:
                raise ResourceError(f"no worker came up: {self.problem}")
            self.changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.changed.wait(), 1.0)

    async def _start(self, delay: float) -> None:
        if delay:
            await asyncio.sleep(delay)
        if self.stopping:
            return
        ours, theirs = socket.socketpair()
        with theirs:
            text = replace(self.setting, fd=theirs.fileno()).to_text()
            threads = {name: str(self.setting.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
            process = subprocess.Popen(
                [sys.executable, "-m", "convsmith.serving.worker", text],
                pass_fds=(theirs.fileno(),),
                env=os.environ | threads | {"PYTHONPATH": _import_path()},
                stdin=subprocess.DEVNULL,
            )
        ours.setblocking(False)
        worker = Worker(self, process)
        self.workers.append(worker)  # before anything is waited for, so that `stop` finds it
        await asyncio.get_running_loop().create_unix_connection(lambda: worker, sock=ours)

    def began(self, worker: Worker, reply: Reply) -> None:
        """Take a worker's first message: it is ready, or says why it cannot be."""
        if reply.status != 200:
            self.problem = json.loads(reply.body)["error"]
            return
        worker.ready, self.about, self.failures = True, json.loads(reply.body), 0
        self.changed.set()
        self.pump()

    def submit(self, task: Task, deliver: Callable[[Reply], None]) -> None:
        """Queue a task; when too much waits already the reply comes at once."""
        if len(self.waiting) >= self.limits.waiting or self.waiting_bytes + len(task.body) > self.limits.waiting_bytes:
            self.metrics.events["queue full"] += 1
            deliver(Reply(503, error("too many requests are waiting; try again later")))
            return
        self.waiting.append(Job(task, deliver, time.monotonic()))
        self.waiting_bytes += len(task.body)
        self.pump()

    def pump(self) -> None:
        """Give what waits to workers that are idle, each its share, so that none takes what the next could begin on now."""
        for worker in self.workers:
            if not self.waiting:
                return
            if not worker.ready or worker.jobs:
                continue
            if not self._due():
                return
            self._give(worker)

    def _due(self) -> bool:
        """Tell whether to begin; else see to it that somebody looks again when the oldest has waited long enough."""
        wait = self.batching.wait_s - (time.monotonic() - self.waiting[0].arrived)
        if wait <= 0 or len(self.waiting) >= self.batching.most:
            return True
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(wait, self._wake)
        return False

    def _wake(self) -> None:
        self._timer = None
        self.pump()

    def _give(self, worker: Worker) -> None:
        share = min(self.batching.most, -(-len(self.waiting) // max(1, self.ready)))
        jobs = [self.waiting.popleft()]
        while len(jobs) < share and self.waiting and not jobs[0].alone and not self.waiting[0].alone:
            jobs.append(self.waiting.popleft())
        self.waiting_bytes -= sum(len(job.task.body) for job in jobs)
        self.metrics.batches.observe(len(jobs))
        worker.send(jobs)

    def finished(self, jobs: Sequence[Job], replies: Sequence[Reply]) -> None:
        """Deliver a batch; the worker is fed first, so that it does not wait for the clients."""
        self.pump()
        for job, reply in zip(jobs, replies, strict=True):
            self.metrics.images += reply.images
            job.deliver(reply)

    def ended(self, worker: Worker) -> None:
        """Replace a worker that died; what it had is tried once more, alone, by another."""
        self.workers.remove(worker)
        self._reap(worker)
        jobs, worker.jobs = worker.jobs, []
        for job in reversed(jobs):
            job.attempts += 1
            if job.attempts >= ATTEMPTS or self.stopping:
                self.metrics.events["lost twice"] += 1
                job.deliver(Reply(503, error("the worker died on this request, and another one too; it was not answered")))
            else:
                self.metrics.events["retried"] += 1
                self.waiting.appendleft(job)
                self.waiting_bytes += len(job.task.body)
        if self.stopping:
            return
        self.metrics.events["worker died"] += 1
        if not worker.ready:
            self.failures += 1
            self.changed.set()
        delay = min(LONGEST_DELAY_S, 0.1 * 2**self.failures) if self.failures else 0.0
        started = asyncio.get_running_loop().create_task(self._start(delay))
        self._starting.add(started)
        started.add_done_callback(self._starting.discard)
        self.pump()

    def _reap(self, worker: Worker) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.process.kill()
            worker.process.wait(1.0)

    def sweep(self, now: float) -> None:
        """Answer what waits or computes for too long; a worker that is stuck is killed, and its other requests go to another."""
        limit = now - self.limits.answer_s
        while self.waiting and self.waiting[0].arrived < limit:
            job = self.waiting.popleft()
            self.waiting_bytes -= len(job.task.body)
            self.metrics.events["waited too long"] += 1
            job.deliver(Reply(503, error(f"no worker was free for {self.limits.answer_s:g} s; try again later")))
        for worker in list(self.workers):
            late = [job for job in worker.jobs if job.arrived < limit]
            if late:
                self.metrics.events["computed too long"] += 1
                worker.jobs = [job for job in worker.jobs if job.arrived >= limit]
                for job in late:
                    job.deliver(Reply(504, error(f"the answer took longer than {self.limits.answer_s:g} s")))
                worker.kill()

    async def stop(self) -> None:
        """Close the sockets, which ends the workers, and wait for them."""
        self.stopping = True
        for task in list(self._starting):
            task.cancel()
        for worker in list(self.workers):
            if worker.transport:
                worker.transport.close()
        await asyncio.sleep(0)
        for worker in list(self.workers):
            self._reap(worker)


def _import_path() -> str:
    """Return where a worker finds this package, whatever the working folder is."""
    here = str(Path(__file__).parents[2])
    return os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
