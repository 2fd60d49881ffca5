"""The verbs: one file each, with its `Config` and `run(config, record)`; the same from the command line, Python and a web form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convsmith.jobs.configuration import compose
    from convsmith.jobs.duration import Duration, parse_duration
    from convsmith.jobs.lifecycle import Outcome, Watch, perform
    from convsmith.jobs.verbs import VERBS, Verb

__all__ = ["VERBS", "Duration", "Outcome", "Verb", "Watch", "compose", "parse_duration", "perform"]

# loaded when used: the table of verbs must be there before anything heavy is
_OWNER = {
    "VERBS": "verbs",
    "Verb": "verbs",
    "compose": "configuration",
    "Duration": "duration",
    "parse_duration": "duration",
    "Outcome": "lifecycle",
    "Watch": "lifecycle",
    "perform": "lifecycle",
}


def __getattr__(name: str) -> Any:
    if name not in _OWNER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"convsmith.jobs.{_OWNER[name]}"), name)
