"""``convsmith worker``: starts the waiting jobs of the queue until it is stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from convsmith import runs
from convsmith.errors import UsageError
from convsmith.queue.resources import Machine, machine
from convsmith.queue.worker import Worker

HELP = "Start the waiting jobs of the queue. Ctrl-C ends the worker, never a job."
app = App(name="worker", help=HELP, help_format="plaintext", suppress_keyboard_interrupt=False)


@app.default
def work(
    *,
    cores: Annotated[int | None, Parameter(name="--cores", help="Processors to give to jobs; by default all", show_default=False)] = None,
    until_idle: Annotated[bool, Parameter(name="--until-idle", negative=(), help="End when no job is left", show_default=False)] = False,
    root: Annotated[Path | None, Parameter(name="--root", help="Folder of runs; by default ./runs, or what CONVSMITH_RUNS names")] = None,
) -> int:
    """Start the waiting jobs of the queue. Ctrl-C ends the worker, never a job."""
    has = machine()
    if cores is not None and cores < 1:
        raise UsageError(f"--cores {cores} leaves nothing for a job; give 1 or more")
    place = (root or runs.root()).expanduser().absolute()
    worker = Worker(place, Machine(cores or has.cores, has.gpus), hear=lambda text: print(text, flush=True))
    print(f"serving {place}: {worker.has.cores} processors, {len(has.gpus)} GPUs", flush=True)
    try:
        worker.serve(linger_s=0.0 if until_idle else None)
    except KeyboardInterrupt:
        print("the worker ends; jobs that run go on, and the next worker takes them up")
    return 0
