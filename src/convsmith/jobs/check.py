"""Look at the images before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from convsmith import runs
from convsmith.jobs.settings import Images
from convsmith.jobs.text import printable, table


class Config(Images):
    """What to look at."""

    show: int = Field(20, ge=0, description="Problems to list; all of them are in --json")


def run(config: Config, record: runs.Listener) -> dict[str, Any]:
    """Look at every image and return what is there, what is left out and why. No file is changed.

    ``errors``: why nothing can be trained on these images; empty when something can.
    """
    from convsmith import data

    health = data.check(
        config.data,
        val=config.val,
        test=config.test,
        seed=config.split_seed,
        workers=config.workers or None,
        progress=lambda done, total: record.progress("check", done, total),
    )
    return health.to_dict() | {"show": config.show}


def lines(result: Mapping[str, Any]) -> str:
    """Return the result as text."""
    colour = "grey" if result["channels"] == 1 else "colour"
    parts = [f"{printable(result['name'])}: {result['images']:,} usable {colour} images in {len(result['classes'])} classes"]
    if result["sizes"]:
        parts.append(table(["size", "height", "width"], [[name, *size] for name, size in result["sizes"].items()]))
    parts.append(_counts(result))
    parts += [f"Note: {printable(note)}" for note in result["notes"]]
    if result["near_count"]:
        parts.append(f"{result['near_count']} pairs of images look alike, such as {' and '.join(map(printable, result['near'][0]))}.")
    parts.append(_problems(result))
    return "\n\n".join(part for part in parts if part)


def _counts(result: Mapping[str, Any]) -> str:
    counts: Mapping[str, list[int]] = result["counts"]
    if not counts:
        return ""
    rows = [
        [name, *(counts[split][index] for split in counts), sum(counts[split][index] for split in counts)]
        for index, name in enumerate(result["classes"])
    ]
    rows.append(["all", *(sum(column) for column in counts.values()), sum(map(sum, counts.values()))])
    return table(["class", *counts, "all"], rows)


def _problems(result: Mapping[str, Any]) -> str:
    problems = result["problems"]
    if not problems:
        return "No problem was found."
    kinds = ", ".join(f"{count} {kind}" for kind, count in result["kinds"].items())
    shown = problems[: result["show"]]
    listed = table(["image", "kind", "reason"], [[item["name"], item["kind"], item["reason"]] for item in shown])
    more = f"\n... and {len(problems) - len(shown)} more (--show {len(problems)})" if len(problems) > len(shown) else ""
    out = result["left_out"]
    what = "1 file or image is" if out == 1 else f"{out:,} files or images are"
    return f"{what} left out; to know ({kinds}):\n\n{listed}{more}"
