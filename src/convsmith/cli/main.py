"""The entry point: parse, do, print, and end with the right code."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from cyclopts import App, CycloptsError

from convsmith import __version__
from convsmith.errors import ConvsmithError, UsageError, near
from convsmith.jobs.verbs import VERBS

HELP = """\
From a folder of labelled images to the smallest, fastest ConvNet that still meets your accuracy.

Start with `convsmith forge FOLDER`, or `convsmith forge digits` to try it on bundled images.
"""

#: Commands that are no verbs: where each is, imported when it is asked for, and its help.
BESIDE: dict[str, tuple[str, str]] = {
    "runs": ("convsmith.cli.runs_commands:app", "List, show, compare and remove runs."),
    "queue": ("convsmith.cli.queue_commands:app", "Let jobs wait for processors and run in the background; list, stop and resume them."),
    "studio": ("convsmith.cli.studio_command:app", "See, train, compare, shrink and ship in a browser, served from this machine."),
    "worker": ("convsmith.cli.worker_command:app", "Start the waiting jobs of the queue."),
}


def make_app() -> App:
    """Return the table of commands; nothing of a verb is imported before it is asked for."""
    app = App(name="convsmith", help=HELP, version=__version__, help_format="markdown", suppress_keyboard_interrupt=False)
    for place, verb in enumerate(VERBS.values()):
        app.command(f"convsmith.cli.commands:{verb.name}_command", name=verb.name, help=verb.help, sort_key=place)
    for place, (name, (where, told)) in enumerate(BESIDE.items(), len(VERBS)):
        app.command(where, name=name, help=told, sort_key=place)
    return app


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code: 0 done, 1 unexpected, 2 usage, 3 data, 4 resources, 130 interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    # threads that spin while they wait make training some fifty times slower as soon as another program runs; read when torch is loaded
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _accept_any_name()
    before = terminate_as_interrupt()
    try:
        return _guarded(words)
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def _guarded(words: list[str]) -> int:
    try:
        _know(words)
        found = make_app()(words, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
        return found if isinstance(found, int) else 0
    except CycloptsError as error:
        return _tell(words, UsageError(_words(error)))
    except ConvsmithError as error:
        return _tell(words, error)
    except KeyboardInterrupt as error:
        return _tell(words, error)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the reader of our output left; nothing more can be said there
        return 0
    except Exception as error:
        return _tell(words, error)


def _know(words: list[str]) -> None:
    """Refuse an unknown verb here: cyclopts would import every verb to name them."""
    allowed = [*VERBS, *BESIDE]
    if words and not words[0].startswith("-") and words[0] not in allowed:
        raise UsageError(f"there is no verb {words[0]!r}; there are {', '.join(allowed)}.{near(words[0], allowed)}")


def _tell(words: list[str], error: BaseException) -> int:
    if os.environ.get("CONVSMITH_DEBUG"):
        import traceback

        traceback.print_exception(error)
    from convsmith.cli import output

    return output.error(error, words)


def _words(error: CycloptsError) -> str:
    return " ".join(str(error).split()).replace('"', "'")


def _accept_any_name() -> None:
    """Print file names that are no valid text as escapes instead of failing on them."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def terminate_as_interrupt() -> Any:
    """Let SIGTERM end a job as Ctrl-C does: with a checkpoint and a word on how to go on."""

    def interrupt(*_: Any) -> None:
        signal.raise_signal(signal.SIGINT)

    try:
        return signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread, which alone may set handlers
        return None
