"""The health of the data: what is there, what was left out and why, what the network gets to see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from convsmith.report import units
from convsmith.report.charts import share_bar
from convsmith.report.source import Source

SPLITS = ("train", "val", "test")
MOST_PROBLEMS = 100
RESIZED = {
    "squash": "squashed",
    "crop": "cropped to the centre and scaled",
    "fill": "scaled whole, with black beside it,",
    "half_crop": "cropped half way, with black beside it, and scaled",
}


def build(source: Source) -> dict[str, Any] | None:
    """Return counts per class and split, problems by kind, notes and the preprocessing in words."""
    dataset = source.table("dataset.json")
    if dataset is None:
        return None
    classes = [str(name) for name in dataset["classes"]]
    counts: Mapping[str, Sequence[int]] = dataset["counts"]
    splits = [name for name in SPLITS if name in counts] + [name for name in counts if name not in SPLITS]
    totals = {name: sum(counts[name]) for name in splits}
    per_class = [[int(counts[name][index]) for name in splits] for index in range(len(classes))]
    most = max((sum(row) for row in per_class), default=0)
    problems = list(dataset.get("problems") or [])
    return {
        "name": dataset.get("name", ""),
        "source": dataset.get("source", ""),
        "splits": splits,
        "totals": [units.count(totals[name]) for name in splits],
        "total": units.count(sum(totals.values())),
        "classes": len(classes),
        "rows": [
            {
                "name": name,
                "counts": [units.count(value) for value in row],
                "total": units.count(sum(row)),
                "bar": share_bar([value / max(most, 1) for value in row]),
            }
            for name, row in zip(classes, per_class, strict=True)
        ],
        "balance": balance([sum(row) for row in per_class]),
        "problems": by_kind(problems),
        "left_out": sum(1 for problem in problems if problem.get("left_out", True)),
        "notes": [str(note)[:1].upper() + str(note)[1:] for note in dataset.get("notes") or []],
        "preprocess": _preprocess(source.table("preprocess.json")),
    }


def balance(totals: Sequence[int]) -> str:
    """Say how even the classes are."""
    least, most = min(totals), max(totals)
    if least == 0:
        return "At least one class has no image."
    if least == most:
        return f"The classes are balanced: {units.count(most)} images each."
    if most <= 1.5 * least:
        return f"The classes are balanced: {units.count(least)} to {units.count(most)} images each."
    return f"The largest class has {units.ratio(most / least)} the images of the smallest ({units.count(least)} to {units.count(most)})."


def by_kind(problems: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the problems of each kind, the most frequent kind first, at most 100 of each."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for problem in problems:
        groups.setdefault(str(problem.get("kind", "other")), []).append(problem)
    return [
        {
            "kind": kind.replace("_", " "),
            "count": len(found),
            "left_out": sum(1 for problem in found if problem.get("left_out", True)),
            "rows": [{"name": str(p.get("name", "")), "reason": str(p.get("reason", ""))} for p in found[:MOST_PROBLEMS]],
            "more": max(0, len(found) - MOST_PROBLEMS),
        }
        for kind, found in sorted(groups.items(), key=lambda item: -len(item[1]))
    ]


def _preprocess(fields: Mapping[str, Any] | None) -> str:
    if fields is None:
        return ""
    how = RESIZED.get(str(fields.get("resize")), RESIZED["crop"])
    colour = "grey" if fields.get("channels") == 1 else "RGB"
    mean, std = (", ".join(f"{value:.3f}" for value in fields.get(key, ())) for key in ("mean", "std"))
    size = f"{fields['height']} × {fields['width']}"
    return f"Each image is {how} to {size} {colour} pixels, then normalised with mean {mean} and deviation {std}."
