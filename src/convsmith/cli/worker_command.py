"""``convsmith worker``: starts the waiting jobs of the queue, or works on the trials of a study, until it is stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from convsmith import runs
from convsmith.cli.flags import Root
from convsmith.errors import UsageError

HELP = "Start the waiting jobs of the queue, or with --study work on a sweep. Ctrl-C ends the worker, never a job of the queue."
app = App(name="worker", help=HELP, help_format="plaintext", suppress_keyboard_interrupt=False)


@app.default
def work(
    *,
    cores: Annotated[int | None, Parameter(name="--cores", help="Processors to give to jobs; by default all", show_default=False)] = None,
    until_idle: Annotated[bool, Parameter(name="--until-idle", negative=(), help="End when no job is left", show_default=False)] = False,
    root: Root = None,
    study: Annotated[
        str | None, Parameter(name="--study", help="Work on the sweep in this database, begun here or elsewhere", show_default=False)
    ] = None,
    name: Annotated[str | None, Parameter(name="--name", help="Which study, where the database has several", show_default=False)] = None,
    data: Annotated[str | None, Parameter(name="--data", help="Where the sweep's images are on this machine", show_default=False)] = None,
) -> int:
    """Start the waiting jobs of the queue, or with --study work on a sweep. Ctrl-C ends the worker, never a job of the queue."""
    if study is not None:
        return _sweep(study, name, data)
    if name is not None or data is not None:
        raise UsageError("--name and --data belong to a sweep; give its --study too")
    return _serve((root or runs.root()).expanduser().absolute(), cores, until_idle)


def _serve(place: Path, cores: int | None, until_idle: bool) -> int:
    from convsmith.queue.resources import Machine, machine
    from convsmith.queue.worker import Worker

    has = machine()
    if cores is not None and cores < 1:
        raise UsageError(f"--cores {cores} leaves nothing for a job; give 1 or more")
    worker = Worker(place, Machine(cores or has.cores, has.gpus), hear=_say)
    _say(f"serving {place}: {worker.has.cores} processors, {len(has.gpus)} GPUs")
    try:
        worker.serve(linger_s=0.0 if until_idle else None)
    except KeyboardInterrupt:
        _say("the worker ends; jobs that run go on, and the next worker takes them up")
    return 0


def _sweep(study: str, name: str | None, data: str | None) -> int:
    from convsmith import sweeps
    from convsmith.jobs.trial import work as work_on

    shared = sweeps.join(study, name)
    _say(f"study {shared.name}: {shared.open_count()} of {shared.spec.trials} trials are open")
    done = work_on(shared, data=data, hear=_say)
    _say(f"no trial is left; {done} were done here")
    return 0


def _say(text: str) -> None:
    print(text, flush=True)
