"""What a command prints: results on stdout, errors on stderr, or exactly one JSON document on stdout."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml
from pydantic import BaseModel

from convsmith import runs
from convsmith.errors import ConvsmithError
from convsmith.jobs import Outcome, train
from convsmith.jobs.configuration import given
from convsmith.jobs.resume import is_resumable
from convsmith.jobs.text import printable
from convsmith.jobs.verbs import find


def result(outcome: Outcome, module: ModuleType, as_json: bool) -> int:
    """Print what a job returned; 3 when it found that the data cannot be used, else 0."""
    errors = outcome.result.get("errors") or []
    if as_json:
        document = {"verb": outcome.verb, "ok": not errors, "run": outcome.folder, "report": outcome.report, "result": outcome.result}
        document |= {"error": {"kind": "DataError", "message": "\n".join(errors), "exit_code": 3}} if errors else {}
        print(runs.to_json(document, indent=1))
    else:
        print(module.lines(outcome.result))
        if outcome.report:
            print(f"\nreport: {printable(outcome.report)}")
        if errors:
            sys.stdout.flush()
            print(_block("\n".join(errors)), file=sys.stderr)
    return 3 if errors else 0


def settings(config: BaseModel, as_json: bool) -> None:
    """Print the settings in full; of nested ones those that were given, since the rest is chosen by the data."""
    asked = given(config)
    values = {
        name: asked.get(name, {}) if isinstance(value, BaseModel) else runs.plain(value)
        for name, value in ((name, getattr(config, name)) for name in type(config).model_fields)
    }
    print(runs.to_json(values, indent=1) if as_json else yaml.safe_dump(values, sort_keys=False, allow_unicode=True).rstrip())


def plan(verb: str, quoted: Mapping[str, Any], as_json: bool) -> None:
    """Print what a job would do and take."""
    if as_json:
        print(runs.to_json({"verb": verb, "ok": True, "plan": quoted}, indent=1))
        return
    print(getattr(find(verb).module, "plan", train.plan)(quoted))


def answer(verb: str, result: Any) -> int:
    """Print the one JSON document of a command that is no verb, and return its exit code."""
    document({"verb": verb, "ok": True, "result": result})
    return 0


def document(value: Any) -> None:
    """Print one JSON document."""
    print(runs.to_json(value, indent=1))


def error(problem: BaseException, words: Sequence[str]) -> int:
    """Print an error as one block without a traceback, with what to do next, and return the exit code."""
    folder: Path | None = getattr(problem, "run_folder", None)
    kind, code, message = classify(problem)
    hints = _hints(problem, folder)
    if "--json" in words:
        told = {"kind": kind, "message": message, "exit_code": code, **({"hints": hints} if hints else {})}
        document({"verb": words[0] if words else None, "ok": False, "run": folder, "error": told})
    sys.stdout.flush()
    if "--json" not in words:
        print("\n".join([_block(message) if code != 130 else message, *hints]), file=sys.stderr)
    return code


def classify(problem: BaseException) -> tuple[str, int, str]:
    """Return the kind of an error, its exit code and its message."""
    if isinstance(problem, KeyboardInterrupt):
        return "Interrupted", 130, "interrupted"
    if isinstance(problem, ConvsmithError):
        return type(problem).__name__, problem.exit_code, str(problem)
    return "Unexpected", 1, f"unexpected {type(problem).__name__}: {problem}"


def _hints(problem: BaseException, folder: Path | None) -> list[str]:
    hints = []
    if folder is not None and (folder / "run.json").exists():
        run = runs.open(folder)
        if run.status in ("interrupted", "stopped") and is_resumable(run.verb):
            hints.append(f"Go on with: convsmith resume {folder}")
        else:
            hints.append(f"The run is in {folder}")
    if not isinstance(problem, ConvsmithError | KeyboardInterrupt):
        hints.append("This is a fault of Convsmith; set CONVSMITH_DEBUG=1 to see where.")
    return hints


def _block(message: str) -> str:
    first, *rest = message.splitlines() or [""]
    return "\n".join([f"error: {first}", *(f"       {line}" for line in rest)])
