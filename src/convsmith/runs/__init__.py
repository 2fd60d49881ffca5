"""The record of what was done: run folders, the list of them, and two of them compared.

A folder is the truth and can be read, moved and copied by hand; everything else here is rebuilt from folders.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convsmith.runs.comparison import Comparison, compare
    from convsmith.runs.files import plain, replacing, to_json, write_bytes, write_json
    from convsmith.runs.index import Entry, entries, find
    from convsmith.runs.naming import root
    from convsmith.runs.reader import SCHEMA, Predictions, Run
    from convsmith.runs.reader import open_run as open
    from convsmith.runs.record import Listener, Progress, Record, Unrecorded, attach, create, resume
    from convsmith.runs.removal import remove

__all__ = [
    "SCHEMA",
    "Comparison",
    "Entry",
    "Listener",
    "Predictions",
    "Progress",
    "Record",
    "Run",
    "Unrecorded",
    "attach",
    "compare",
    "create",
    "entries",
    "find",
    "open",
    "plain",
    "remove",
    "replacing",
    "resume",
    "root",
    "to_json",
    "write_bytes",
    "write_json",
]

# loaded when used, so that a verb's help need not wait for NumPy
_OWNERS = {
    "comparison": ("Comparison", "compare"),
    "files": ("plain", "replacing", "to_json", "write_bytes", "write_json"),
    "index": ("Entry", "entries", "find"),
    "naming": ("root",),
    "reader": ("SCHEMA", "Predictions", "Run", "open"),
    "record": ("Listener", "Progress", "Record", "Unrecorded", "attach", "create", "resume"),
    "removal": ("remove",),
}
_OWNER = {name: module for module, names in _OWNERS.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _OWNER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_OWNER[name]}")
    return getattr(module, "open_run" if name == "open" else name)
