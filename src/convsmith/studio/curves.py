"""The curves of a run from its files: a point an epoch and a point a second, thinned without losing an extreme."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convsmith.runs.reader import objects

EVENTS, PROGRESS = "events.jsonl", "progress.jsonl"
SHOWN = 1500
SERIES = ("loss", "val_loss", "accuracy", "val_accuracy", "lr")


@dataclass(frozen=True)
class Read:
    """Whole lines of a file from one offset on, and the offset behind them."""

    lines: tuple[str, ...]
    offset: int


def read_lines(path: Path, offset: int = 0, limit_bytes: int = 64 << 20) -> Read:
    """Return the whole lines from ``offset`` on. No file: none. A file that is shorter than that began anew, and so does the reading."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            start = offset if 0 <= offset <= size else 0
            file.seek(start)
            content = file.read(limit_bytes)
    except OSError:
        return Read((), 0)
    whole = content.rpartition(b"\n")[0]
    if not whole:
        return Read((), start)
    return Read(tuple(whole.decode("utf-8", "replace").split("\n")), start + len(whole) + 1)


def thin(x: Sequence[float], y: Sequence[float], most: int = SHOWN) -> list[int]:
    """Return which points of a curve to draw, in order: the first, the last, and of each stretch its least and greatest value.

    At most ``most``, which is at least 4; a curve of no more points is drawn whole. Points that are no number are kept out.
    """
    kept = [index for index, value in enumerate(y) if isinstance(value, int | float) and value == value]
    if len(kept) <= most:
        return kept
    stretches = (most - 2) // 2
    inner = kept[1:-1]
    chosen = {kept[0], kept[-1]}
    for number in range(stretches):
        part = inner[number * len(inner) // stretches : (number + 1) * len(inner) // stretches]
        if part:
            chosen |= {min(part, key=lambda index: y[index]), max(part, key=lambda index: y[index])}
    return sorted(chosen)


def of_run(folder: Path, most: int = SHOWN) -> dict[str, Any]:
    """Return the curves of a run, the epoch of its best weights, how far it is and the time left, with the offsets up to which was read.

    ``series``: name -> ``x`` (epochs) and ``y``. ``steps``: the loss of single updates over the same axis.
    """
    events, progress = read_lines(folder / EVENTS), read_lines(folder / PROGRESS)
    told = list(objects(events.lines))
    epochs = _latest(event for event in told if event.get("kind") == "epoch" and isinstance(event.get("epoch"), int | float))
    lines = list(objects(progress.lines))
    steps = [line for line in lines if line.get("stage") == "train" and "epoch" in line and "loss" in line]
    return {
        "series": {name: _series(epochs, name, most) for name in SERIES},
        "steps": _series(steps, "loss", most),
        "best": best(epochs),
        "epochs": next((event.get("epochs") for event in reversed(told) if event.get("kind") == "plan"), None),
        "progress": lines[-1] if lines else None,
        "left_s": remaining_s(lines),
        "offset": f"{events.offset}-{progress.offset}",
    }


def _latest(events: Any) -> list[Mapping[str, Any]]:
    """Return one event an epoch: after a resume the later one counts."""
    return sorted({event["epoch"]: event for event in events}.values(), key=lambda event: event["epoch"])


def _series(rows: Sequence[Mapping[str, Any]], name: str, most: int) -> dict[str, list[float]]:
    rows = [row for row in rows if isinstance(row.get(name), int | float)]
    x, y = [float(row["epoch"]) for row in rows], [float(row[name]) for row in rows]
    chosen = thin(x, y, most)
    return {"x": [x[index] for index in chosen], "y": [y[index] for index in chosen]}


def best(epochs: Sequence[Mapping[str, Any]]) -> dict[str, float] | None:
    """Return epoch and validation accuracy of the weights that are kept: the latest of the best."""
    scored = [row for row in epochs if isinstance(row.get("val_accuracy"), int | float)]
    if not scored:
        return None
    row = max(scored, key=lambda item: (item["val_accuracy"], item["epoch"]))
    return {"epoch": float(row["epoch"]), "accuracy": float(row["val_accuracy"])}


def remaining_s(lines: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the time left of the running stage at its mean pace, None before it can be told."""
    from datetime import datetime

    if not lines:
        return None
    last = lines[-1]
    stage = [line for line in lines if line.get("stage") == last.get("stage")]
    try:
        gone_s = (datetime.fromisoformat(last["time"]) - datetime.fromisoformat(stage[0]["time"])).total_seconds()
        moved = last["done"] - stage[0]["done"]
        return max(0.0, gone_s / moved * (last["total"] - last["done"])) if moved > 0 and gone_s >= 0 else None
    except (KeyError, TypeError, ValueError):
        return None
