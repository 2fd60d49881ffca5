"""Jobs that wait, run and end as processes of their own, whoever watches: the queue of one runs folder and its worker.

Promises: a job that `submit` returned is on the disk; it is started once; it outlives the page, the server and the worker that started it;
how it ended is written beside it by its keeper, with the signal when one ended it. The folder of a job is the truth, the table is rebuilt
from the folders. No part of this depends on the wall clock.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convsmith.queue.job import Job
    from convsmith.queue.requests import Queue, abort, get, jobs, prioritise, resume, submit
    from convsmith.queue.resources import Machine, machine
    from convsmith.queue.starting import ensure_worker, worker_alive

__all__ = [
    "Job",
    "Machine",
    "Queue",
    "abort",
    "ensure_worker",
    "get",
    "jobs",
    "machine",
    "prioritise",
    "resume",
    "submit",
    "worker_alive",
]

# loaded when used, as in the other rooms that the command line touches
_OWNERS = {
    "job": ("Job",),
    "requests": ("Queue", "abort", "get", "jobs", "prioritise", "resume", "submit"),
    "resources": ("Machine", "machine"),
    "starting": ("ensure_worker", "worker_alive"),
}
_OWNER = {name: module for module, names in _OWNERS.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _OWNER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_OWNER[name]}"), name)
