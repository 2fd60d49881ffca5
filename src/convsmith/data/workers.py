"""Worker processes that decode: started as fresh interpreters, so neither torch's threads nor an unguarded script matters.

``multiprocessing`` would fork (unsafe beside running threads) or import the user's main script again; this does neither.
Results come back in the order of the tasks, large ones through memory that both sides map.
"""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing.connection import Connection, Pipe
from types import TracebackType
from typing import Any

from convsmith.errors import ConvsmithError, ResourceError
from convsmith.kernels import processor_count

START = """import json, sys
sys.path[:] = json.loads(sys.argv[1])
from convsmith.data.workers import serve
serve(int(sys.argv[2]), int(sys.argv[3]))"""


FEW = 400


def sensible(files: int) -> int:
    """Return how many processes look at so many files where nobody says: none for few, else one a processor."""
    return processor_count() if files >= FEW else 0


def in_turn(function: Callable[[Any], Any], tasks: Sequence[Any], workers: int) -> Iterator[Any]:
    """Yield the result of every task in order, from so many processes, or with none from here."""
    if not workers:
        yield from map(function, tasks)
        return
    with Pool(min(workers, max(1, len(tasks))), function) as pool:
        yield from pool.results(tasks)


class Pool:
    """Processes that all run one function on the tasks they are given; close it, or use it in ``with``.

    ``function`` is a module-level function; it gets the task, and after it the shared memory when ``shared_bytes`` is above 0.
    A process that dies is a ResourceError; an error inside the function is raised here as it is.
    """

    def __init__(self, count: int, function: Callable[..., Any], shared_bytes: int = 0) -> None:
        self.shared: mmap.mmap | None = None
        self._processes: list[subprocess.Popen[bytes]] = []
        self._pipes: list[Connection[Any, Any]] = []
        memory = _shared_file(shared_bytes) if shared_bytes else -1
        try:
            if shared_bytes:
                self.shared = mmap.mmap(memory, shared_bytes)
            for _ in range(count):
                self._start(memory, function)
        except BaseException:
            self.close()
            raise
        finally:
            if memory >= 0:
                os.close(memory)

    def _start(self, memory: int, function: Callable[..., Any]) -> None:
        ours, theirs = Pipe()
        self._pipes.append(ours)
        command = [sys.executable, "-c", START, json.dumps(sys.path), str(theirs.fileno()), str(memory)]
        inherited = (theirs.fileno(), memory) if memory >= 0 else (theirs.fileno(),)
        one_thread = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
        # a session of its own: Ctrl-C reaches the parent alone, which then closes the pipes
        self._processes.append(
            subprocess.Popen(
                command, pass_fds=inherited, stdin=subprocess.DEVNULL, env={**os.environ, **one_thread}, start_new_session=True
            )
        )
        theirs.close()
        ours.send(function)

    def results(self, tasks: Iterable[Any], ahead: int = 2) -> Iterator[Any]:
        """Yield the result of every task in order, each process having up to ``ahead`` tasks at a time."""
        pending: deque[int] = deque()
        limit = ahead * len(self._pipes)
        for number, task in enumerate(tasks):
            if len(pending) >= limit:
                yield self._receive(pending.popleft())
            worker = number % len(self._pipes)
            try:
                self._pipes[worker].send(task)
            except OSError as error:
                raise self._death(worker) from error
            pending.append(worker)
        while pending:
            yield self._receive(pending.popleft())

    def _receive(self, worker: int) -> Any:
        try:
            good, value = self._pipes[worker].recv()
        except (EOFError, OSError) as error:
            raise self._death(worker) from error
        if not good:
            raise value
        return value

    def _death(self, worker: int) -> ResourceError:
        code = self._processes[worker].wait()
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return ResourceError(f"a decoding process {how}, perhaps for lack of memory; try fewer workers or a smaller max_pixels")

    def close(self) -> None:
        """End all processes; safe to call twice."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            try:
                process.wait(timeout=0.5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self.shared is not None:
            try:
                self.shared.close()
            except BufferError:
                pass  # an array still looks into it; the memory goes with that array

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _shared_file(size_bytes: int) -> int:
    if hasattr(os, "memfd_create"):
        memory = os.memfd_create("convsmith")
    else:
        with tempfile.TemporaryFile() as file:
            memory = os.dup(file.fileno())
    os.ftruncate(memory, size_bytes)
    return memory


def serve(pipe_handle: int, memory: int) -> None:
    """Answer tasks until the parent closes the pipe or is gone."""
    pipe: Connection[Any, Any] = Connection(pipe_handle)
    shared = (mmap.mmap(memory, 0),) if memory >= 0 else ()
    try:
        function = pipe.recv()
        while True:
            task = pipe.recv()
            try:
                answer = (True, function(task, *shared))
            except ConvsmithError as error:
                answer = (False, error)
            pipe.send(answer)
    except (EOFError, OSError):
        return
