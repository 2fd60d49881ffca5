"""Measure what it gains to average answers or weights, and what it costs: every way on the same images of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from convsmith import runs
from convsmith.jobs import averages, sources
from convsmith.jobs.settings import Settings, positional
from convsmith.jobs.text import percent, table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from convsmith.training.averaging import Answers, Method

ROOM = 3.0
"""The choice may cost at most so many times the plain answer."""


class Config(Settings):
    """Which run, with which others, on which images."""

    run: str = positional("Network: a run (its folder, its name, or 'last')")
    others: tuple[str, ...] = positional("Other runs on the same images, for ensembles and soups", default=())
    part: Literal["val", "test"] = Field("val", description="Part of the run's images to measure on")
    images: int = Field(1000, ge=0, description="Images to measure on, evenly spread; 0 takes all")
    draws: int = Field(8, ge=2, le=100, description="Passes of Monte-Carlo dropout")
    batch: int = Field(64, ge=1, description="Images at once")
    workers: int = Field(0, ge=0, description="Processes that look at the files")


def run(config: Config, record: runs.Record) -> dict[str, Any]:
    """Measure every way of averaging that the run allows and write averages.json."""
    from convsmith import data

    described = record.read_json("dataset.json")
    dataset = sources.reopen(described, record, workers=config.workers)
    split = averages.part_of(dataset, config.part)
    rows = data.spread(len(split), config.images)
    found = averages.prepare(runs.open(record.folder), config.others, dataset, record, draws=config.draws, workers=config.workers)

    def done(count: int) -> None:
        record.progress("average", count, len(rows))

    answers = averages.read(found.methods, found.members, split, rows, batch=config.batch, progress=done)
    weighed = weigh(found.methods, answers, split.labels[rows])
    result = {
        "part": config.part,
        "n": len(rows),
        "rows": weighed,
        "choice": choose(weighed),
        "absent": found.absent,
        "notes": found.notes,
    }
    record.write_json("averages.json", result)
    record.event("averages", rows=len(weighed), choice=result["choice"])
    return result


def weigh(methods: Sequence[Method], answers: Answers, labels: NDArray[np.int64]) -> list[dict[str, Any]]:
    """Return accuracy, the gain over the plain answer with its 95 % interval in points, and cost of every method, the plain one first."""
    from convsmith.analysis import wilson
    from convsmith.precision.scoring import Score, compare

    scores = {method.name: Score.of(answers.of(method).argmax(1) == labels) for method in methods}
    plain, plain_s = scores["plain"], answers.cost_s(methods[0])
    found = []
    for method in methods:
        change = compare(plain, scores[method.name])
        seconds = answers.cost_s(method)
        right = round(scores[method.name].accuracy * len(labels))
        found.append(
            {
                "name": method.name,
                "told": method.told,
                "passes": len(set(method.readings)),
                "accuracy": scores[method.name].accuracy,
                "interval": wilson(right, len(labels)),
                "gain": 0.0 - change["drop"],
                "gain_low": -change["drop_high"],
                "gain_high": -change["drop_low"],
                "gained": change["gained"],
                "lost": change["lost"],
                "ms": 1e3 * seconds / len(labels),
                "cost": seconds / plain_s,
            }
        )
    _mark(found)
    return found


def _mark(rows: list[dict[str, Any]]) -> None:
    """Mark the rows that are worth their cost: nothing as cheap or cheaper is as good."""
    for row in rows:
        rivals = [other for other in rows if other is not row and other["ms"] <= row["ms"]]
        row["worth"] = all(other["accuracy"] < row["accuracy"] for other in rivals)


def choose(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the most accurate method within three times the plain cost whose gain is surely above 0, else ``plain``."""
    sure = [row for row in rows if row["gain_low"] > 0 and row["cost"] <= ROOM]
    return str(max(sure, key=lambda row: (row["accuracy"], -row["ms"]))["name"]) if sure else "plain"


def lines(result: Mapping[str, Any]) -> str:
    """Return the result as text."""
    cells = [
        [
            row["name"] + (" *" if row["worth"] else ""),
            percent(row["accuracy"]),
            f"{row['gain']:+.2f} ({row['gain_low']:+.2f} to {row['gain_high']:+.2f})",
            row["passes"],
            f"{row['ms']:.3g}",
            f"{row['cost']:.3g}",
            row["told"],
        ]
        for row in result["rows"]
    ]
    head = ["average", "accuracy", "gain in points (95 %)", "passes", "ms an image", "times plain", "what it is"]
    parts = [f"{result['n']:,} images of part {result['part']}; * nothing cheaper is as accurate", table(head, cells)]
    parts += ["\n".join(f"{name}: {why}" for name, why in result["absent"].items())] if result["absent"] else []
    parts += result["notes"]
    if result["choice"] == "plain":
        parts.append(f"No gain within {ROOM:g} times the cost is surely above 0 on these images: answer once.")
    else:
        parts.append(f"Worth it: convsmith eval RUN --average {result['choice']}")
    return "\n\n".join(parts)
