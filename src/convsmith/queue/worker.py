"""The process that starts waiting jobs when there is room for them. It can be killed at any moment: jobs go on, the next worker goes on."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from convsmith.errors import ConvsmithError, UsageError
from convsmith.queue import job, resources, starting, store
from convsmith.runs import naming, process

LOOK_S = 0.25
#: How often a keeper that comes to nothing is started again before the job is given up.
ATTEMPTS = 3


def keeper_command(folder: Path) -> Sequence[str]:
    return [sys.executable, "-P", "-m", "convsmith.queue.keeper", str(folder)]


@dataclass
class Worker:
    """Serves one queue. ``has``: what it may give to jobs; ``hear`` is told in words what it does."""

    root: Path
    has: resources.Machine = field(default_factory=resources.machine)
    hear: Callable[[str], None] = lambda _: None
    keeper: Callable[[Path], Sequence[str]] = keeper_command

    def __post_init__(self) -> None:
        self._keepers: dict[int, subprocess.Popen[bytes]] = {}
        self._leaving: list[subprocess.Popen[bytes]] = []
        self._attempts: dict[int, int] = {}
        self.stop = threading.Event()

    def serve(self, linger_s: float | None = None) -> None:
        """Start jobs until `stop` is set, or ``linger_s`` seconds went by without any.

        Raises: UsageError when another worker serves this queue.
        """
        with self._only():
            store.make_sound(self.root, suspect=True)
            idle_since = time.monotonic()
            while not self.stop.is_set():
                try:
                    active = self.step()
                except ConvsmithError as error:  # a full disk, a table that was broken: jobs run on, and this may pass
                    self.hear(str(error))
                    active = 1
                now = time.monotonic()
                idle_since = now if active else idle_since
                if linger_s is not None and not active and now - idle_since >= linger_s:
                    return
                self.stop.wait(LOOK_S)

    def step(self) -> int:
        """Settle what ended, take up what lost its keeper, start what fits; return how many jobs wait or run."""
        self._leaving = [known for known in self._leaving if known.poll() is None]
        with store.table(self.root) as table:
            started = [job.from_folder(job.folder_of(self.root, row.id)) for row in store.rows(table, "started")]
            for found in started:
                if not found.active:
                    store.settle(table, found)
            running = [found for found in started if found.active]
            waiting = [self._asked(row) for row in store.rows(table, "queued")]
            chosen, overtaken = resources.choose(waiting, [_share(found) for found in running], self.has)
            for asked, share in chosen:
                self._prepare(asked, share)
                table.execute("UPDATE jobs SET status = 'started' WHERE id = ?", (asked.row.id,))
            table.executemany("UPDATE jobs SET overtaken = overtaken + 1 WHERE id = ?", [(asked.row.id,) for asked in overtaken])
        for found in started:
            if not found.active:
                self._forget(found)
        for asked, share in chosen:
            self.hear(f"job {asked.row.id} starts on {share.cores} of {self.has.cores} processors")
            self._keep(asked.row.id)
        for found in running:
            self._revive(found)
        return len(running) + len(waiting)

    def _asked(self, row: store.Row) -> resources.Asked:
        found = job.from_folder(job.folder_of(self.root, row.id))
        return resources.Asked(row, found.cores, found.gpus)

    def _prepare(self, asked: resources.Asked, share: resources.Share) -> None:
        folder = job.folder_of(self.root, asked.row.id)
        request = job.read(folder / job.REQUEST) or {}
        run = (job.read(folder / job.START) or request)["run"]
        if request["makes"] and run is None:
            run = str(naming.new_folder(self.root, request["verb"], request["about"]))
        job.write(folder / job.START, {"run": run, "cores": share.cores, "gpus": share.gpus})

    def _keep(self, number: int) -> None:
        folder = job.folder_of(self.root, number)
        with (folder / job.LOG).open("ab") as log:
            self._keepers[number] = subprocess.Popen(
                self.keeper(folder), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def _revive(self, found: job.Job) -> None:
        """Start a keeper for a job that has none: the worker before this one, or the keeper, was killed."""
        known = self._keepers.get(found.id)
        if known is not None and known.poll() is None:
            return
        begun = job.read(found.folder / job.PROCESS)
        if known is None and begun is not None and process.alive(begun["keeper"]):
            return
        tried = self._attempts[found.id] = self._attempts.get(found.id, 0) + 1
        if tried > ATTEMPTS:
            job.end(found.folder, "failed", f"its keeper was started {ATTEMPTS} times and ended each time; see its log", seconds=None)
            return
        self._keep(found.id)

    def _forget(self, found: job.Job) -> None:
        known = self._keepers.pop(found.id, None)
        if known is not None and known.poll() is None:
            self._leaving.append(known)  # the end was its last act but for its exit
        if found.run is not None and found.run.is_dir() and not any(found.run.iterdir()):
            found.run.rmdir()  # a job that failed before its run began
        self.hear(f"job {found.id} {found.status}{': ' if found.message else ''}{found.message}")

    @contextmanager
    def _only(self) -> Iterator[None]:
        """Hold the queue's worker lock, which the kernel lets go with this process."""
        place = job.place(self.root)
        place.mkdir(parents=True, exist_ok=True)
        handle = os.open(place / "worker.lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(f"another worker serves the queue of {self.root} already; one is enough") from None
            job.write(place / starting.WORKER, process.identity())
            yield
        finally:
            os.close(handle)


def _share(found: job.Job) -> resources.Share:
    start = job.read(found.folder / job.START) or {}
    return resources.Share(int(start.get("cores", found.cores)), tuple(start.get("gpus", ())))


def main() -> None:
    try:
        Worker(Path(sys.argv[1]), hear=lambda text: print(job.now(), text, flush=True)).serve(float(sys.argv[2]))
    except UsageError:
        return  # another one was faster, and serves as well


if __name__ == "__main__":
    main()
