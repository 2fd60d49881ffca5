"""``convsmith runs``: list, show, compare and remove run folders."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from convsmith import runs
from convsmith.cli import output
from convsmith.cli.flags import Json, Root
from convsmith.errors import UsageError
from convsmith.jobs.text import percent, printable, table

app = App(name="runs", help="List, show, compare and remove runs.", help_format="plaintext", suppress_keyboard_interrupt=False)

Name = Annotated[str, Parameter(help="Run: its folder, its name or the beginning of it, or 'last'")]


@app.command(name="list")
def list_runs(*, root: Root = None, json: Json = False) -> int:
    """List all runs, the newest last."""
    entries = runs.entries(root or runs.root())
    if json:
        return output.answer("runs list", {"root": str(root or runs.root()), "runs": entries})
    if not entries:
        print(f"There is no run in {printable(root or runs.root())}.")
        return 0
    rows = [[entry.name, entry.verb, entry.data, entry.status, _top1(entry.summary), entry.summary.get("model")] for entry in entries]
    print(table(["run", "verb", "data", "status", "top-1", "model"], rows))
    for entry in entries:
        if entry.status == "unreadable":
            print(f"\n{printable(entry.name)}: {printable(entry.error)}")
    return 0


@app.command
def show(run: Name, *, root: Root = None, json: Json = False) -> int:
    """Show what a run is, what it found and which files it holds."""
    found = runs.open(runs.find(run, root or runs.root()))
    files = sorted(str(path.relative_to(found.folder)) for path in found.folder.rglob("*") if path.is_file())
    if json:
        described = dict(found.described) | {"status": found.status, "folder": found.folder, "config": found.config, "files": files}
        return output.answer("runs show", described)
    rows = [["run", found.name], ["verb", found.verb], ["data", found.data], ["status", found.status], ["created", found.created]]
    rows += [["error", found.error]] if found.error else []
    rows += [[key, percent(value) if key == "top1" else value] for key, value in found.summary.items()]
    print(table(["what", "value"], rows))
    print(f"\ncommand: {shlex.join(map(str, found.described.get('command', [])))}")
    print("\n".join(f"{key}: {printable(value)}" for key, value in found.config.items()))
    print(f"\nfiles: {', '.join(map(printable, files))}")
    if found.status in ("interrupted", "stopped", "failed"):
        print(f"\nGo on with: convsmith resume {printable(found.folder)}")
    return 0


@app.command
def compare(
    a: Annotated[str, Parameter(help="First run")],
    b: Annotated[str, Parameter(help="Second run")],
    *,
    root: Root = None,
    json: Json = False,
) -> int:
    """Compare two runs on the images both were tested on, with McNemar's paired test."""
    place = root or runs.root()
    found = runs.compare(runs.find(a, place), runs.find(b, place))
    if json:
        return output.answer("runs compare", found)
    paired = found.paired
    rows: list[list[Any]] = [
        ["test images", found.images_a, found.images_b],
        ["shared", paired.n, paired.n],
        ["top-1 on these", percent(found.accuracy_a), percent(found.accuracy_b)],
        ["right alone", paired.only_a, paired.only_b],
        *([key, printable(left), printable(right)] for key, (left, right) in found.differences.items()),
    ]
    print(table(["", found.a, found.b], rows))
    print(f"\nMcNemar: p = {paired.p_exact:.4g} (exact), {paired.p_mid:.4g} (mid-p)\n{paired.sentence}")
    return 0


@app.command(name="rm")
def remove(
    *names: Annotated[str, Parameter(help="Runs: folders, names or beginnings of names")],
    yes: Annotated[bool, Parameter(name="--yes", negative=(), help="Do not ask", show_default=False)] = False,
    root: Root = None,
    json: Json = False,
) -> int:
    """Delete run folders for good, after asking; nothing that is not a run is touched."""
    if not names:
        raise UsageError("no run given; `convsmith runs list` shows them")
    folders = [runs.find(name, root or runs.root()) for name in names]
    if not yes and not _agreed(folders):
        raise UsageError("nothing was removed")
    removed = [runs.remove(folder) for folder in folders]
    if json:
        return output.answer("runs rm", {"removed": removed})
    for folder in removed:
        print(f"removed {printable(folder)}")
    return 0


def _agreed(folders: list[Path]) -> bool:
    listed = ", ".join(printable(folder) for folder in folders)
    if not sys.stdin.isatty():
        raise UsageError(f"this would delete {listed}; add --yes to do it")
    print(f"Delete {listed} for good? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _top1(summary: Any) -> str | None:
    value = summary.get("top1")
    return percent(value) if isinstance(value, float) else None
