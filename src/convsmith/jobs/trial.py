"""A worker of a sweep: takes trials of a study, makes a run of each, and tells the study what came out."""

from __future__ import annotations

import math
import socket
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from convsmith import runs
from convsmith.errors import ConvsmithError, UsageError
from convsmith.jobs.configuration import merge
from convsmith.jobs.lifecycle import Watch, perform
from convsmith.jobs.resume import is_resumable
from convsmith.runs import naming
from convsmith.sweeps import Shared, nested
from convsmith.sweeps.study import Taken

LOOK_S = 0.5
#: What is kept of a run's result beside its trial.
FIGURES = ("top1", "val_accuracy", "parameters", "epochs", "macs")


class Pruned(KeyboardInterrupt):
    """A trial that the study has given up. It ends a run as Ctrl-C does: the run reads interrupted and can be resumed."""


def work(shared: Shared, *, data: str | None = None, hear: Callable[[str], None] = lambda _: None, patience_s: float = LOOK_S) -> int:
    """Work on a study until no trial waits or runs anywhere; return how many this process did.

    ``data``: where the images are on this machine, if elsewhere than the study says.
    Raises: KeyboardInterrupt after Ctrl-C, once the trial at hand waits again.
    """
    done = 0
    while True:
        for number in shared.reap():
            hear(f"the worker of trial {number} was killed; it is done again")
        taken = shared.take()
        if taken is not None:
            hear(f"trial {taken.number}: {', '.join(f'{key}={value}' for key, value in taken.values.items())}")
            hear(f"trial {taken.number}: {attempt(shared, taken, data)}")
            done += 1
        elif shared.open_count() == 0:
            return done
        else:
            time.sleep(patience_s)


def attempt(shared: Shared, taken: Taken, data: str | None) -> str:
    """Do one trial and return in words what came out."""
    from optuna.exceptions import UpdateFinishedTrialError

    try:
        return _attempt(shared, taken, data)
    except UpdateFinishedTrialError:
        return "taken for dead meanwhile and given to another worker"


def _attempt(shared: Shared, taken: Taken, data: str | None) -> str:
    from optuna.exceptions import UpdateFinishedTrialError

    began = time.monotonic()
    with shared.beating(taken):
        try:
            value, figures = _run(shared, taken, data)
        except Pruned:
            shared.note(taken, seconds=time.monotonic() - began)
            shared.tell(taken, None, pruned=True)
            return "given up: others were better after as many epochs"
        except KeyboardInterrupt:
            shared.give_back(taken)
            raise
        except UpdateFinishedTrialError:
            raise
        except Exception as error:
            told = str(error) if isinstance(error, ConvsmithError) else f"{type(error).__name__}: {error}"
            shared.note(taken, seconds=time.monotonic() - began, error=told)
            shared.tell(taken, None)
            return f"failed: {told}"
    shared.note(taken, seconds=time.monotonic() - began, figures=figures)
    shared.tell(taken, value)
    return f"{shared.spec.metric} {value:.6g}"


def _run(shared: Shared, taken: Taken, data: str | None) -> tuple[float, dict[str, Any]]:
    spec = shared.spec
    watch = Watch(hear=_reporting(shared, taken) if spec.prune else None)
    begun = _begun(taken)
    if begun is not None:
        outcome = perform("resume", {"run": str(begun)}, watch=watch)
    else:
        settings = merge(merge(spec.settings, nested(taken.values)), {"data": data} if data else {})
        folder = naming.unused_folder(runs.root().absolute(), f"{naming.slug(shared.name)}-t{taken.number:03d}")
        shared.note(taken, run=str(folder), began_on=socket.gethostname())
        outcome = perform(spec.verb, settings, out=folder, watch=watch)
    result = runs.plain(outcome.result)
    return _measured(result, spec.metric), {key: result[key] for key in FIGURES if isinstance(result.get(key), int | float)}


def _begun(taken: Taken) -> Path | None:
    """Return the run of an earlier attempt at this trial that this machine can go on with."""
    worker, run = taken.attributes.get("began_on"), taken.attributes.get("run")
    if not run or (worker and worker != socket.gethostname()) or not (Path(run) / "run.json").exists():
        return None
    found = runs.open(run)
    return found.folder if found.status in ("interrupted", "stopped", "failed") and is_resumable(found.verb) else None


def _reporting(shared: Shared, taken: Taken) -> Callable[[str, Mapping[str, Any]], None]:
    """Return a listener that tells the study each epoch's figure, and ends the run when the study gives it up."""
    metric, last = shared.spec.metric, math.inf

    def hear(kind: str, fields: Mapping[str, Any]) -> None:
        nonlocal last
        if kind in ("plan", "replan"):
            last = float(fields["steps"])
        if kind != "epoch" or not isinstance(fields.get(metric), int | float):
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an epoch that is done again after a resume is told twice
            taken.trial.report(float(fields[metric]), round(float(fields["epoch"])))
        if fields["step"] < last and taken.trial.should_prune():  # after the last update nothing can be saved any more
            raise Pruned(f"given up after epoch {fields['epoch']:g}")

    return hear


def _measured(result: Mapping[str, Any], metric: str) -> float:
    value = result.get(metric, (result.get("summary") or {}).get(metric))
    if isinstance(value, bool) or not isinstance(value, int | float):
        numbers = sorted(key for key, found in {**(result.get("summary") or {}), **result}.items() if isinstance(found, int | float))
        raise UsageError(f"the result has no number {metric!r}; there are {', '.join(numbers)}")
    return float(value)
