"""The record of what was done: run folders, the list of them, and two of them compared.

A folder is the truth and can be read, moved and copied by hand; everything else here is rebuilt from folders.
"""

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
