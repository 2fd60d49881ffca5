"""Go on with a run that did not come to its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convsmith import runs
from convsmith.errors import UsageError
from convsmith.jobs import verbs
from convsmith.jobs.configuration import validate
from convsmith.jobs.settings import Settings, positional


class Config(Settings):
    """Which run."""

    run: str = positional("Run: its folder, its name or the beginning of it, or 'last'")


def check(run: runs.Run) -> None:
    """Raise `UsageError` when a run has nothing to go on with."""
    if run.status == "finished":
        raise UsageError(f"{run.folder} is finished; there is nothing to resume. `convsmith runs show {run.folder}` shows what it found.")
    if not is_resumable(run.verb):
        raise UsageError(f"{run.folder} is a run of `{run.verb}`, which cannot be resumed; start it again")


def is_resumable(verb: str) -> bool:
    """Tell whether runs of a verb can go on."""
    return verb in {**verbs.VERBS, **verbs.BELOW} and hasattr(verbs.find(verb).module, "resume")


def run(config: Config, record: runs.Record) -> dict[str, Any]:
    """Go on with the run as the verb that began it."""
    begun = runs.open(record.folder)
    module = verbs.find(begun.verb).module
    result: dict[str, Any] = module.resume(validate(module.Config, begun.config), record)
    return result | {"verb": begun.verb}


def lines(result: Mapping[str, Any]) -> str:
    """Return the result as the resumed verb would."""
    text: str = verbs.find(result["verb"]).module.lines(result)
    return text
