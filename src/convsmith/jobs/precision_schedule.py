"""Train with few bits first and more later: what that saves at equal accuracy, and whether few bits converge faster at first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from convsmith import runs
from convsmith.jobs.kept import Kept
from convsmith.jobs.settings import Settings, positional
from convsmith.jobs.text import table
from convsmith.jobs.trial_training import trainer_of

if TYPE_CHECKING:
    from convsmith.precision.plan import Plan

TRIALS = "schedule_trials.json"


class Config(Settings):
    """Which run's recipe, which two plans, when to go from one to the other, how many seeds."""

    run: str = positional("Run whose recipe is trained anew: its folder, its name or the beginning of it, or 'last'")
    low: str = Field("e6m3", description="First plan: a format for everything that training stores, or the file of a plan")
    high: str = Field("e8m7", description="Second plan: a format, or the file of a plan")
    switches: tuple[float, ...] = Field((0.25, 0.5, 0.75), description="Parts of the run after which the second plan begins")
    plans: tuple[Path, ...] = Field((), description="Files of further plans to compare, with phases of their own")
    max_drop: float = Field(0.3, ge=0, description="Points below the second plan alone that count as equal accuracy")
    seeds: int = Field(3, ge=1, description="Trainings of each plan")
    epochs: float | None = Field(None, gt=0, description="Passes over the training images; those of the run by default")
    workers: int = Field(0, ge=0, description="Processes that decode images")


def run(config: Config, record: runs.Record) -> dict[str, Any]:
    """Train every plan with every seed, compare, and write schedule.json and schedule.svg; an interrupted comparison goes on."""
    from convsmith.precision import schedules
    from convsmith.precision.plan import Plan
    from convsmith.precision.trials import Trial

    train = trainer_of(runs.open(record.folder), record, config.epochs, config.workers)
    work, epochs = train.work(), train.training.epochs
    kept = Kept(record, TRIALS, "trials", Trial.from_dict, config.model_dump(mode="json", exclude={"max_drop", "workers", "run"}))
    found = schedules.compare_schedules(
        train,
        lambda plan: work.run(plan, epochs),
        _plan(config.low),
        _plan(config.high),
        epochs,
        config.max_drop,
        switches=config.switches,
        given=[Plan.load(path) for path in config.plans],
        seeds=range(config.seeds),
        progress=lambda done, total, name: record.progress("schedule", done, total, plan=name),
        on_trial=kept.add,
        done=list(kept.found),
    )
    stored = {
        "rows": [schedules.row_dict(row) for row in found.rows],
        "chosen": found.chosen.name if found.chosen else None,
        "saved": found.saved,
        "hypothesis": found.hypothesis,
        "notes": list(found.notes),
        "curves": schedules.curves_of(found.rows),
        "epochs": epochs,
        "seeds": config.seeds,
        "float32_cost": work.run(None, epochs),
        "n": len(train.dataset.test if "test" in train.dataset.splits else train.dataset.val),
    }
    record.write_json("schedule.json", stored)
    if found.chosen is not None:
        record.write_json("schedule_plan.json", found.chosen.plan.to_dict())
    record.event("schedule", chosen=stored["chosen"], saved=found.saved, hypothesis=found.hypothesis)
    kept.forget()
    return stored


def _plan(given: str) -> Plan:
    """Return the plan of a file, or the one that gives everything a training stores the format named."""
    from convsmith.precision.plan import Plan
    from convsmith.precision.training_search import uniform_training

    return Plan.load(given) if given.endswith(".json") else uniform_training(given)


def lines(result: Mapping[str, Any]) -> str:
    """Return the result as text."""
    rows = []
    for row in result["rows"]:
        accuracy, drop = row["accuracy"], row["drop"]
        rows.append(
            [
                row["name"],
                f"{accuracy[0]:.2f} ({accuracy[1]:.2f} to {accuracy[2]:.2f})",
                f"{drop[0]:+.2f} ({drop[1]:+.2f} to {drop[2]:+.2f})",
                f"{row['cost']:.4g}",
                f"{row['cost'] / result['rows'][0]['cost']:.0%}",
            ]
        )
    head = ["plan", "accuracy, % (95 %)", "drop in points (95 %)", "bit operations", "of the second plan"]
    return "\n\n".join([table(head, rows), *result["notes"], result["hypothesis"]])
