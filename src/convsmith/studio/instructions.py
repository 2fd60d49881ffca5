"""What does the same as a page: the command line and the Python of a job."""

from __future__ import annotations

import json
import pprint
import shlex
from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import BaseModel

from convsmith import runs
from convsmith.jobs.configuration import command, given


def command_line(verb: str, config: BaseModel) -> str:
    """Return the line for a shell."""
    return shlex.join(command(verb, config))


def python(verb: str, config: BaseModel) -> str:
    """Return the lines for Python."""
    asked = pprint.pformat(runs.plain(given(config)), width=100, sort_dicts=False)
    return f"from convsmith import jobs\n\noutcome = jobs.perform({json.dumps(verb)}, {asked})\nprint(outcome.folder, outcome.result)"


def yaml_text(values: Mapping[str, Any]) -> str:
    """Return settings as a file for ``--config``."""
    return yaml.safe_dump(runs.plain(values), sort_keys=False, allow_unicode=True)


def both(verb: str, config: BaseModel) -> dict[str, str]:
    """Return all three."""
    return {"command": command_line(verb, config), "python": python(verb, config), "yaml": yaml_text(given(config))}
