"""The process of one queued job: does what `convsmith VERB` does, with its progress and result in files beside its log."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from convsmith.cli.main import terminate_as_interrupt
from convsmith.queue import job

#: Progress is written at most so often; a page asks about twice a second.
PROGRESS_S = 0.5


def main() -> int:
    """Do the job of the folder that is the only argument, and return the exit code of the verb."""
    folder = Path(sys.argv[1])
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does; read when torch is loaded
    terminate_as_interrupt()
    request, start = job.read(folder / job.REQUEST) or {}, job.read(folder / job.START) or {}
    try:
        return perform(folder, request, start.get("run"))
    except BaseException as error:
        from convsmith.cli import output

        kind, code, message = output.classify(error)
        with contextlib.suppress(Exception):  # on a full disk the exit code has to do
            job.write(folder / job.RESULT, {"error": {"kind": kind, "message": message, "exit_code": code}})
        if code == 1:
            import traceback

            traceback.print_exception(error)
        return output.error(error, [request.get("verb", "?")])


def perform(folder: Path, request: dict[str, Any], run: str | None) -> int:
    """Run the verb and write what it returned."""
    from convsmith import jobs
    from convsmith.cli import output
    from convsmith.cli.progress import Display
    from convsmith.jobs.lifecycle import Watch

    with Display() as display:
        watch = Watch(show=noting(folder, display.show), hear=display.hear)
        try:
            outcome = jobs.perform(request["verb"], request["arguments"], out=run if request["makes"] else None, watch=watch)
        except BaseException as error:
            error.__dict__["run_folder"] = watch.folder
            raise
    errors = outcome.result.get("errors") or []
    told = {"error": {"kind": "DataError", "message": "\n".join(errors), "exit_code": 3}} if errors else {}
    job.write(folder / job.RESULT, {"result": outcome.result, "run": outcome.folder, "report": outcome.report} | told)
    return output.result(outcome, jobs.verbs.find(request["verb"]).module, as_json=False)


def noting(folder: Path, show: Callable[[Any], None]) -> Callable[[Any], None]:
    """Return a listener that passes progress on and keeps the last of it in a file."""
    last = 0.0

    def note(progress: Any) -> None:
        nonlocal last
        show(progress)
        now = time.monotonic()
        if now - last < PROGRESS_S and progress.done < progress.total:
            return
        last = now
        with contextlib.suppress(OSError):
            told = {"stage": progress.stage, "done": progress.done, "total": progress.total, "fields": progress.fields}
            job.write(folder / job.PROGRESS, told, durable=False)

    return note


if __name__ == "__main__":
    sys.exit(main())
