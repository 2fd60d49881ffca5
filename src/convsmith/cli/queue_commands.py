"""``convsmith queue``: jobs that wait for processors and run in the background."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from cyclopts import App, Parameter

from convsmith import queue, runs
from convsmith.cli import output
from convsmith.cli.flags import Json, Root
from convsmith.errors import UsageError
from convsmith.jobs.configuration import given
from convsmith.jobs.duration import format_duration
from convsmith.jobs.text import printable, table
from convsmith.jobs.verbs import BELOW, Verb, find

HELP = "Let jobs wait for processors and run in the background; list, stop and resume them."
app = App(name="queue", help=HELP, help_format="plaintext", suppress_keyboard_interrupt=False)

Number = Annotated[int, Parameter(help="Number of the job, as `convsmith queue list` shows it")]
Priority = Annotated[int, Parameter(name="--priority", help="Higher ones start first")]
Words = Annotated[str, Parameter(allow_leading_hyphen=True, help="A verb with its flags, as after `convsmith`")]


@app.command
def add(
    *words: Words,
    priority: Priority = 0,
    cores: Annotated[int | None, Parameter(name="--cores", help="Processors it takes; 0 all", show_default=False)] = None,
    no_worker: Annotated[bool, Parameter(name="--no-worker", negative=(), help="Start no worker", show_default=False)] = False,
    root: Root = None,
    json: Json = False,
) -> int:
    """Put a job into the queue: `convsmith queue add train digits --epochs 5`. Its settings are checked now."""
    from convsmith.cli import commands

    verb, rest = _verb(words)
    taken: dict[str, Any] = {}

    def take(_: Verb, values: Mapping[str, Any]) -> int:
        taken.update(values)
        return 0

    commands.make(verb, take)(list(rest), exit_on_error=False, print_error=False, result_action="return_value")
    settings = given(commands.compose(verb, taken))
    number = queue.submit(verb.name, settings, root=root, out=taken.get("folder"), cores=cores, priority=priority)
    started = not no_worker and queue.ensure_worker(root)
    if json or taken.get("json"):
        return output.answer("queue add", {"job": number, "worker_started": started})
    print(f"job {number}: convsmith {' '.join(words)}\nIts log: convsmith queue log {number}")
    return 0


@app.command(name="list")
def list_jobs(
    *,
    every: Annotated[bool, Parameter(name="--all", negative=(), help="Also all that ended", show_default=False)] = False,
    root: Root = None,
    json: Json = False,
) -> int:
    """List the jobs that run and wait, and the last ten that ended."""
    found = queue.jobs(root=root, ended=100_000 if every else 10)
    alive = queue.worker_alive(root)
    if json:
        return output.answer("queue list", {"worker": alive, "jobs": found})
    if not found:
        print(f"There is no job in the queue of {printable(root or runs.root())}.")
        return 0
    print(table(["job", "verb", "about", "status", "time", "priority", "run"], [_row(known) for known in found]))
    for known in found:
        if known.message:
            print(f"\njob {known.id}: {printable(known.message)}")
    if not alive and any(known.status == "queued" for known in found):
        print("\nNo worker runs; start one with: convsmith worker")
    return 0


@app.command
def abort(job: Number, *, root: Root = None, json: Json = False) -> int:
    """Stop a job: it saves its state and can be resumed. One that does not listen is ended after half a minute."""
    return _tell("abort", queue.abort(job, root=root), json)


@app.command
def resume(
    run: Annotated[str, Parameter(help="Run: its folder, its name or the beginning of it, or 'last'")],
    *,
    priority: Priority = 0,
    root: Root = None,
    json: Json = False,
) -> int:
    """Go on in the background with a run that was interrupted, failed or killed."""
    number = queue.resume(run, root=root, priority=priority)
    queue.ensure_worker(root)
    return _tell("resume", queue.get(number, root=root), json)


@app.command
def move(job: Number, priority: Annotated[int, Parameter(help="Higher ones start first")], *, root: Root = None, json: Json = False) -> int:
    """Give a waiting job another priority."""
    return _tell("move", queue.prioritise(job, priority, root=root), json)


@app.command
def log(job: Number, *, root: Root = None) -> int:
    """Print what a job has said so far."""
    found = queue.get(job, root=root)
    print(
        found.log.read_text(errors="backslashreplace") if found.log.exists() else f"job {job} is {found.status} and has said nothing",
        end="",
    )
    return 0


def _verb(words: tuple[str, ...]) -> tuple[Verb, tuple[str, ...]]:
    if not words:
        raise UsageError("no verb given; for example: convsmith queue add train digits")
    for count in (2, 1):
        if " ".join(words[:count]) in BELOW:
            return find(" ".join(words[:count])), words[count:]
    return find(words[0]), words[1:]


def _tell(what: str, found: queue.Job, json: bool) -> int:
    if json:
        return output.answer(f"queue {what}", found)
    print(f"job {found.id} is {found.status}{': ' if found.message else ''}{printable(found.message)}")
    return 0


def _row(found: queue.Job) -> list[Any]:
    about = found.arguments.get("data") or found.arguments.get("run") or found.arguments.get("paper") or ""
    time = format_duration(found.seconds) if found.seconds is not None else None
    return [found.id, found.verb, about, found.status, time, found.priority, found.run.name if found.run else None]
